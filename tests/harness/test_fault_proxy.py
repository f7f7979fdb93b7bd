"""The proxy disturbs the message that it was told, in the connection that it was told, and no other."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg.pq import DiagnosticField

from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.postgres.fault_proxy import ROUND_TRIPS, STATEMENTS, Fault, FaultProxy, Place

DEADLOCK = ("40P01", "deadlock detected")


def insert(connection: Connection, number: int) -> None:
    """Insert a row by a message each for parsing, binding, executing and syncing."""
    connection.execute("INSERT INTO t VALUES (%s)", [number])


def rows(databases: Databases) -> list[int]:
    """Return what the server has kept."""
    with databases.connect("default") as connection:
        return [number for (number,) in connection.execute("SELECT id FROM t ORDER BY id").fetchall()]


@pytest.fixture
def disturbed(databases: Databases) -> Callable[[Fault], FaultProxy]:
    """Return what gives a proxy with a fault; the table to write to is there."""
    with databases.connect("default") as connection:
        connection.execute("CREATE TABLE t (id int)")
    return lambda fault: FaultProxy(databases.host, databases.port, fault)


@pytest.mark.parametrize(("after", "kept"), [(False, [1, 3, 4]), (True, [1, 2, 3, 4])])
def test_cuts_one_connection_at_a_sync(
    databases: Databases, disturbed: Callable[[Fault], FaultProxy], *, after: bool, kept: list[int]
) -> None:
    """The second message of the second connection: what it wrote is not there, or there and not confirmed."""
    with disturbed(Fault(place=Place(connection=1, message=2), after=after)) as proxy:
        through = databases.via(proxy.port)
        with through.connect("default") as first, through.connect("default") as second:
            insert(second, 1)
            assert proxy.hit is None
            with pytest.raises(psycopg.OperationalError):
                insert(second, 2)
            insert(first, 3)
            insert(first, 4)
        assert proxy.hit is not None
        assert proxy.hit.statement == "INSERT INTO t VALUES ($1)"
    assert rows(databases) == kept


def test_the_server_fails_with_the_error(databases: Databases, disturbed: Callable[[Fault], FaultProxy]) -> None:
    """The client reads the error that was asked for, the transaction has failed, and the connection goes on."""
    place = Place(connection=0, message=3, kinds=STATEMENTS)
    with (
        disturbed(Fault(place=place, error=DEADLOCK)) as proxy,
        databases.via(proxy.port).connect("default") as connection,
    ):
        insert(connection, 1)
        with pytest.raises(psycopg.errors.DeadlockDetected, match="deadlock detected"), connection.transaction():
            insert(connection, 2)
        insert(connection, 3)
    assert rows(databases) == [1, 3]


def test_a_simple_query_fails_too(databases: Databases, disturbed: Callable[[Fault], FaultProxy]) -> None:
    """As libpq sends a text of several statements."""
    with (
        disturbed(Fault(place=Place(connection=0, message=1), error=DEADLOCK)) as proxy,
        databases.via(proxy.port).connect("default") as connection,
    ):
        result = connection.pgconn.exec_(b"INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)")
        assert result.error_field(DiagnosticField.SQLSTATE) == b"40P01"
        insert(connection, 3)
    assert rows(databases) == [3]


@pytest.mark.usefixtures("disturbed")
def test_what_passes_is_told(databases: Databases) -> None:
    """Of the kinds that were asked for, with the statement, and whether it is under a lock that keeps readers out."""
    with (
        FaultProxy(databases.host, databases.port, kinds=ROUND_TRIPS) as proxy,
        databases.via(proxy.port).connect("default") as connection,
        connection.transaction(),
    ):
        connection.execute("SELECT %s::int", [1])
        connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    told = [(message.kind, message.statement.split()[0], message.locked) for message in proxy.messages]
    assert told == [("Q", "BEGIN", False), ("S", "SELECT", False), ("Q", "LOCK", True), ("Q", "COMMIT", True)]


@pytest.mark.usefixtures("disturbed")
def test_a_commit_under_the_lock_is_told_whatever_is_sent_with_it(databases: Databases) -> None:
    """The message that commits is under the lock, though another transaction follows in it; the next one is not."""
    with (
        FaultProxy(databases.host, databases.port, kinds=ROUND_TRIPS) as proxy,
        databases.via(proxy.port).connect("default") as connection,
    ):
        with connection.pipeline():
            for statement in ("BEGIN", "LOCK TABLE t IN ACCESS EXCLUSIVE MODE", "COMMIT", "BEGIN", "COMMIT"):
                connection.execute(statement)
        connection.execute("SELECT 1")
    told = [(message.kind, message.locked, message.sent) for message in proxy.messages]
    together = ("BEGIN", "LOCK TABLE t IN ACCESS EXCLUSIVE MODE", "COMMIT", "BEGIN", "COMMIT")
    assert told == [("S", True, together), ("Q", False, ("SELECT 1",))]


def test_a_connection_is_refused(databases: Databases, disturbed: Callable[[Fault], FaultProxy]) -> None:
    """Message 0 of a connection is the one that asks for it."""
    error = ("53300", "sorry, too many clients already")
    with disturbed(Fault(place=Place(connection=1, message=0), error=error)) as proxy:
        through = databases.via(proxy.port)
        with through.connect("default") as first:
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                through.connect("default")
            insert(first, 1)
        through.connect("default").close()
    assert rows(databases) == [1]


@pytest.mark.parametrize("after", [False, True])
def test_somebody_is_called(databases: Databases, disturbed: Callable[[Fault], FaultProxy], *, after: bool) -> None:
    """The message is passed on all the same, before the call or after it."""
    called: list[str] = []
    fault = Fault(place=Place(connection=0, message=1), after=after, act=lambda: called.append("called"))
    with disturbed(fault) as proxy, databases.via(proxy.port).connect("default") as connection:
        insert(connection, 1)
        insert(connection, 2)
    assert called == ["called"]
    assert rows(databases) == [1, 2]

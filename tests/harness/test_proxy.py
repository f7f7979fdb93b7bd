import time
from collections.abc import Sequence
from typing import LiteralString

import psycopg
import pytest

from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.postgres.proxy import Options, Proxy, Stats


def options(databases: Databases, **changes: object) -> Options:
    """Return the options for the tests' server."""
    return Options(host=databases.host, port=databases.port, **changes)  # type: ignore[arg-type]  # of several types


def rows(databases: Databases) -> list[tuple[int, ...]]:
    """Return what the server has kept."""
    with databases.connect("default") as connection:
        return connection.execute("SELECT id FROM t ORDER BY id").fetchall()


def pipelined(connection: Connection, statements: Sequence[LiteralString]) -> None:
    """Send all before the first answer."""
    with connection.pipeline():
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def table(databases: Databases) -> None:
    """Create the table that the tests write to."""
    with databases.connect("default") as connection:
        connection.execute("CREATE TABLE t (id int)")


def test_counts_after_authentication(databases: Databases) -> None:
    """Connecting counts no round trip, a query one, a pipeline one, saying goodbye none."""
    with Proxy(options(databases)) as proxy:
        with databases.via(proxy.port).connect("default") as connection:
            assert proxy.stats == Stats(connections=1)
            connection.execute("SELECT 1")
            assert (proxy.stats.round_trips, proxy.stats.messages) == (1, 1)
            with connection.pipeline():
                for number in range(5):
                    connection.execute("SELECT %s::int", [number])
        assert (proxy.stats.round_trips, proxy.stats.connections) == (2, 1)
    assert proxy.stats.messages == 11
    assert proxy.stats.bytes_to_server > 50
    assert proxy.stats.bytes_to_client > 50


def test_counts_all_connections(databases: Databases) -> None:
    """The counts add up over connections that are open together."""
    with Proxy(options(databases)) as proxy:
        through = databases.via(proxy.port)
        with through.connect("default") as one, through.connect("visibility") as two:
            for connection in (one, two, one):
                connection.execute("SELECT 1")
        assert (proxy.stats.connections, proxy.stats.round_trips, proxy.stats.messages) == (2, 3, 3)


def test_delays_each_round_trip(databases: Databases) -> None:
    """A query waits once; so does a pipeline of many messages."""
    with (
        Proxy(options(databases, delay=0.1)) as proxy,
        databases.via(proxy.port).connect("default") as connection,
    ):
        began = time.monotonic()
        connection.execute("SELECT 1")
        single = time.monotonic() - began
        with connection.pipeline():
            for _ in range(5):
                connection.execute("SELECT 1")
        piped = time.monotonic() - began - single
    assert 0.1 <= single < 0.2
    assert 0.1 <= piped < 0.2


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("after", "kept"), [(False, [(1,)]), (True, [(1,), (2,)])])
def test_cuts_at_a_query(databases: Databases, *, after: bool, kept: list[tuple[int]]) -> None:
    """The client of a cut query learns nothing; whether it was executed is the option's."""
    with Proxy(options(databases, cut_at=2, cut_after=after)) as proxy:
        with databases.via(proxy.port).connect("default") as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("INSERT INTO t VALUES (2)")
            assert connection.closed
        assert proxy.stats.cuts == 1
    assert rows(databases) == kept


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("after", "kept"), [(False, []), (True, [(1,)])])
def test_cuts_at_an_execute(databases: Databases, *, after: bool, kept: list[tuple[int]]) -> None:
    """A COMMIT in the extended protocol can be lost, or only its answer."""
    statements = ("BEGIN", "INSERT INTO t VALUES (1)", "COMMIT", "INSERT INTO t VALUES (3)")
    with Proxy(options(databases, cut_at=3, cut_after=after, cut_kinds="E")) as proxy:
        with (
            databases.via(proxy.port).connect("default") as connection,
            pytest.raises(psycopg.OperationalError),
        ):
            pipelined(connection, statements)
        assert proxy.stats.cuts == 1
    assert rows(databases) == kept


@pytest.mark.usefixtures("table")
def test_cuts_one_connection_once(databases: Databases) -> None:
    """The others go on, and the next one is whole."""
    with Proxy(options(databases, cut_at=2)) as proxy:
        through = databases.via(proxy.port)
        with through.connect("default") as one, through.connect("default") as two:
            one.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(psycopg.OperationalError):
                two.execute("INSERT INTO t VALUES (2)")
            one.execute("INSERT INTO t VALUES (3)")
        with through.connect("default") as three:
            three.execute("INSERT INTO t VALUES (4)")
        assert proxy.stats.cuts == 1
    assert rows(databases) == [(1,), (3,), (4,)]


@pytest.mark.usefixtures("table")
def test_a_final_cut_ends_all(databases: Databases) -> None:
    """The other connections end too, and nobody gets a new one."""
    with Proxy(options(databases, cut_at=2, final=True)) as proxy:
        through = databases.via(proxy.port)
        with through.connect("default") as one, through.connect("default") as two:
            one.execute("INSERT INTO t VALUES (1)")
            for connection in (two, one):
                with pytest.raises(psycopg.OperationalError):
                    connection.execute("INSERT INTO t VALUES (2)")
        with pytest.raises(psycopg.OperationalError):
            through.connect("default")
        assert (proxy.stats.cuts, proxy.stats.kinds) == (1, "QQ")
    assert rows(databases) == [(1,)]


def test_survives_a_server_that_refuses(databases: Databases) -> None:
    """The client sees a closed connection, the proxy goes on."""
    with Proxy(Options(host="127.0.0.1", port=1)) as proxy:
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                databases.via(proxy.port).connect("default")
        assert proxy.stats.connections == 2

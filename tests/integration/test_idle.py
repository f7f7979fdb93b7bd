"""A client that stands still in a transaction: the server counts it as idle, whatever was sent last, and ends it."""

import time
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest

from schema_migrator.concurrency import Interrupt
from schema_migrator.errors import ConnectionLost
from schema_migrator.postgres import connection, server_errors, transactions
from schema_migrator.postgres.session_settings import Limits
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.postgres.proxy import Link, Options, Proxy
from support.program.command import run_process
from support.program.store_driver import Site, site
from support.waiting import PATIENCE

LIMITS = Limits(table_lock=5, statement=0)
STATE = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
MANY = 120
BLOCK = 8_192  # libpq sends full blocks of a long statement


@pytest.fixture
def store(databases: Databases) -> Site:
    """Return a store with a table to lock."""
    made = site(databases, "default")
    made.run("CREATE TABLE locked (id int)")
    return made


@pytest.fixture
def conn(store: Site) -> Iterator[connection.Connection]:
    """Yield a connection of the program's."""
    (settings,) = store.settings().stores
    with connection.connect(settings, Interrupt(), patience=0) as made:
        yield made


def await_state(watcher: Connection, *expected: str) -> None:
    """Wait until the other session is in that state; none for gone."""
    deadline = time.monotonic() + PATIENCE
    while (found := tuple(state for (state,) in watcher.execute(STATE).fetchall())) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def stand_still(store: Site, conn: connection.Connection, *, asked: bool) -> None:
    """Lock the table, send more, and do nothing until the server has ended the transaction."""
    with store.connect() as watcher, transactions.transaction(conn, None, LIMITS, name="test"):
        conn.execute("SET LOCAL idle_in_transaction_session_timeout = '1s'")
        conn.execute("LOCK TABLE public.locked IN ACCESS EXCLUSIVE MODE")
        for _ in range(MANY):
            conn.execute("SELECT 1")
        if asked:
            conn.execute("SELECT 1").fetchone()
        await_state(watcher, "idle in transaction")
        await_state(watcher)


def fail(conn: connection.Connection) -> None:
    """Write a row, and raise an error of our own after a statement that was not sent."""
    with transactions.transaction(conn, None, LIMITS, name="test"):
        conn.execute("INSERT INTO public.locked VALUES (1)")
        conn.execute("SELECT 1").fetchone()
        conn.execute("SELECT pg_sleep(600)")
        raise ZeroDivisionError


@pytest.mark.parametrize("asked", [False, True], ids=["statements", "an answer"])
def test_a_client_that_stands_still(store: Site, conn: connection.Connection, *, asked: bool) -> None:
    """Its locks are gone with its transaction, whether it waits for an answer or has just sent statements."""
    with pytest.raises(psycopg.DatabaseError) as ended:
        stand_still(store, conn, asked=asked)
    (settings,) = store.settings().stores
    assert isinstance(server_errors.explain(ended.value, settings), ConnectionLost)


@pytest.mark.usefixtures("store")
def test_what_was_not_sent_is_not_sent_after_an_error(conn: connection.Connection) -> None:
    """The transaction is rolled back, and the connection can be used again."""
    with pytest.raises(ZeroDivisionError):
        fail(conn)
    with transactions.look(conn):
        assert conn.execute("SELECT count(*) FROM public.locked").fetchone() == (0,)


def test_every_statement_is_sent_with_a_sync(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write of a migration ends with a Sync, or is a simple query: nothing can stop the client in between.

    libpq sends a statement that is longer than its block in parts, but the server needs all of them.
    """
    last = Counter[bytes]()
    forward = Link.turn

    def noted(link: Link, messages: list[bytes]) -> None:
        if link.ready and 0 < sum(map(len, messages)) < BLOCK:
            last[messages[-1][:1]] += 1
        forward(link, messages)

    monkeypatch.setattr(Link, "turn", noted)
    with Proxy(Options(host=store.databases.host, port=store.databases.port)) as proxy:
        ended = run_process(store.databases.via(proxy.port).env("default"), "migrate")
    assert ended.code == 0, ended.stderr
    assert last.keys() <= {b"S", b"Q", b"X"}, last
    assert last[b"S"] > 1

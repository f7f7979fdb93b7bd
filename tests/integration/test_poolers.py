"""Behind PgBouncer: whether it keeps a session, and the way past it, tried before anything is changed."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from schema_migrator.concurrency import Interrupt
from schema_migrator.config.settings import StoreSettings, read
from schema_migrator.postgres import connection, pooler
from schema_migrator.releases.source import Store
from support.postgres.databases import READ_BY_US, Databases, fresh
from support.postgres.engine import Engine
from support.postgres.pgbouncer import pooled
from support.program.command import run_cli
from support.program.references import picture
from support.program.refusals import errors
from support.visibility import rewriting
from support.visibility.rewriting import Origin

ROWS = 300


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a visibility store at 1.9, which an online rewrite upgrades."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.9", ROWS)


def settings(patch: pytest.MonkeyPatch, seen: Databases) -> StoreSettings:
    """Return a store's settings."""
    for name, value in seen.env().items():
        if READ_BY_US.match(name):
            patch.setenv(name, value)
    return read({}).store(Store.VISIBILITY)


def keeps(store: StoreSettings) -> bool:
    """Whether a connection keeps its session."""
    with closing(connection.connect(store, Interrupt(), patience=10)) as conn:
        return pooler.keeps_session(conn, store, Interrupt())


def test_tells_the_modes_apart(monkeypatch: pytest.MonkeyPatch, databases: Databases) -> None:
    """Without a pooler and in session mode a session is kept, in transaction mode not, whatever the pool holds."""
    assert keeps(settings(monkeypatch, databases))
    for mode, kept in (("session", True), ("transaction", False)):
        with pooled(databases, mode) as seen:
            store = settings(monkeypatch, seen)
            assert [keeps(store) for _ in range(3)] == [kept] * 3
            with ExitStack() as stack:  # sessions that the pool keeps, for the next clients
                for _ in range(4):
                    conn = stack.enter_context(closing(connection.connect(store, Interrupt(), patience=10)))
                    conn.execute("BEGIN")
            assert keeps(store) is kept


def test_a_busy_pooler_in_transaction_mode(monkeypatch: pytest.MonkeyPatch, databases: Databases) -> None:
    """Other clients' transactions make no session look kept."""
    done = threading.Event()
    with pooled(databases, "transaction") as seen, ExitStack() as stack:
        store = settings(monkeypatch, seen)

        def work() -> None:
            with closing(connection.connect(store, Interrupt(), patience=10)) as conn:
                while not done.is_set():
                    conn.execute("BEGIN; SELECT pg_sleep(0.001); COMMIT")

        threads = [threading.Thread(target=work) for _ in range(4)]
        stack.callback(lambda: [thread.join() for thread in threads])
        stack.callback(done.set)
        for thread in threads:
            thread.start()
        assert not any(keeps(store) for _ in range(8))


def test_a_full_pooler_in_session_mode(monkeypatch: pytest.MonkeyPatch, databases: Databases) -> None:
    """Where there are too few sessions to tell, none counts as kept, and that does not take long."""
    with pooled(databases, "session", size=2) as seen:
        assert not keeps(settings(monkeypatch, seen))


def test_upgrades_through_session_mode(origin: Origin) -> None:
    """A pooler that keeps sessions is as good as none, online and in place."""
    for rewrite in ("online", "in-place"):
        name = origin.copy()
        with pooled(origin.databases, "session") as seen:
            env = origin.env(name) | {"SQL_HOST": seen.host, "SQL_PORT": str(seen.port)}
            done = run_cli(env, "migrate", "--rewrite", rewrite)
        assert done.code == 0, done.stderr
        assert picture(origin.databases, name).schema == origin.expected.schema


def test_the_poolers_own_names(origin: Origin) -> None:
    """Past the pooler the database has the server's name."""
    name = origin.copy()
    with pooled(origin.databases, aliases={"tpool": name}) as seen:
        env = origin.env("tpool") | {"SQL_HOST": seen.host, "SQL_PORT": str(seen.port)}
        env |= {"SQL_DIRECT_HOST": origin.databases.host, "SQL_DIRECT_PORT": str(origin.databases.port)}
        done = run_cli(env, "migrate", *rewriting.ONLINE)
    assert done.code == 0, done.stderr
    assert picture(origin.databases, name).schema == origin.expected.schema


def refused(origin: Origin, name: str, code: int, **direct: str) -> str:
    """Run through a pooler in transaction mode; return the error, with the store as it was."""
    before = picture(origin.databases, name)
    with pooled(origin.databases, aliases={"tpool": name}) as seen:
        env = origin.env("tpool") | {"SQL_HOST": seen.host, "SQL_PORT": str(seen.port)} | direct
        done = run_cli(env, "migrate", *rewriting.ONLINE)
    assert done.code == code, done.stderr
    assert picture(origin.databases, name) == before
    with origin.databases.connect(name) as owner:
        assert owner.execute(rewriting.SCHEMAS.encode()).fetchall() == []
    return "\n".join(errors(done))


def test_no_way_past_is_refused_first(origin: Origin) -> None:
    """Without a way past it, or with one to nowhere, to a pooler again or to another database, nothing is begun."""
    name, databases = origin.copy(), origin.databases
    in_the_way = (
        "  - a transaction pooler prevents CREATE INDEX CONCURRENTLY and VACUUM\n"
        "    set SQL_DIRECT_HOST (and SQL_DIRECT_PORT) to the server itself"
    )
    assert in_the_way in refused(origin, name, 12)
    with pooled(databases) as other:
        assert in_the_way in refused(origin, name, 12, SQL_DIRECT_HOST=other.host, SQL_DIRECT_PORT=str(other.port))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    found = refused(origin, name, 1, SQL_DIRECT_HOST="127.0.0.1", SQL_DIRECT_PORT=port)
    assert f"the database at {databases.user}@127.0.0.1:{port}/{name} was not available after 10 s: " in found
    other_name = databases.create()
    with pooled(databases, aliases={name: other_name}) as other:
        found = refused(origin, name, 12, SQL_DIRECT_HOST=other.host, SQL_DIRECT_PORT=str(other.port))
    assert (
        f"SQL_DIRECT_HOST leads to another server than SQL_HOST: {databases.user}@127.0.0.1:{other.port}/{name}"
        in found
    )

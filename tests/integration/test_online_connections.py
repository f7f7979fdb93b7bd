"""An online rewrite on a server that lets in few connections, or ends those that are silent."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace

import pytest
from psycopg import sql

from schema_migrator.concurrency import Interrupt
from schema_migrator.config.settings import read
from schema_migrator.errors import StatementFailed
from schema_migrator.online.tuning import Tuner
from schema_migrator.online.worker_pool import WorkerPool
from schema_migrator.postgres import connection
from schema_migrator.releases.source import Store
from schema_migrator.runs import advisory_lock
from schema_migrator.runs.advisory_lock import Waits
from schema_migrator.runs.context import RunContext
from support.postgres.databases import READ_BY_US, Databases, fresh
from support.postgres.engine import Connection, Engine
from support.program.command import await_event, finish
from support.program.references import picture
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.rewriting import Origin, events

ROWS = 300


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.9."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.9", ROWS)


def count(origin: Origin, database: str) -> object:
    """Return how many rows there are."""
    with origin.databases.connect(database) as owner:
        return owner.execute(f"SELECT count(*) FROM {TABLE}".encode()).fetchone()


@pytest.mark.parametrize("limit", [2, 3, 4, 5])
def test_few_connections(origin: Origin, limit: int) -> None:
    """As many as there are will do; with two, the run's own is the only one that works. Nothing is begun in vain."""
    database = origin.copy()
    user = sql.Identifier(origin.databases.user)
    with origin.databases.admin() as admin:
        admin.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(user, sql.Literal(limit)))
        try:
            done = origin.run(database, "--jobs", "4")
        finally:
            admin.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT -1").format(user))
    assert done.code == 0, done.stderr
    opened = [event["opened"] for event in events(done) if event["event"] == "online.connections"]
    assert opened == [min(limit - 2, 4)]
    assert picture(origin.databases, database).schema == origin.expected.schema
    assert count(origin, database) == (ROWS,)


def test_sessions_that_are_idle(origin: Origin) -> None:
    """A role's idle_session_timeout ends none of ours, although most of them wait for longer."""
    database = origin.copy()
    user = sql.Identifier(origin.databases.user)
    with origin.databases.admin() as admin:
        if admin.execute("SELECT FROM pg_settings WHERE name = 'idle_session_timeout'").fetchone() is None:
            return  # PostgreSQL 13
        setting = sql.SQL("ALTER ROLE {} SET idle_session_timeout = '1s'")
        admin.execute(setting.format(user))
        try:
            with origin.databases.admin(database) as holder:
                holder.execute(f"BEGIN; LOCK TABLE {TABLE} IN ACCESS SHARE MODE".encode())
                process = origin.migrate(database, *rewriting.ONLINE, SCHEMA_MIGRATOR_HEARTBEAT="1")
                await_event(process, "online.waiting_for_snapshots")
                holder.execute("SELECT pg_sleep(3)")
                holder.execute("COMMIT")
                done = finish(process)
        finally:
            admin.execute(sql.SQL("ALTER ROLE {} RESET idle_session_timeout").format(user))
    assert done.code == 0, done.stderr
    assert picture(origin.databases, database).schema == origin.expected.schema


def test_one_failure_ends_what_the_others_do(monkeypatch: pytest.MonkeyPatch, databases: Databases) -> None:
    """A full disk ends an index build that others would go on with for hours; the failure itself is told."""
    for name, value in databases.env().items():
        if READ_BY_US.match(name):
            monkeypatch.setenv(name, value)
    settings, interrupt, ended = read({}), Interrupt(), []
    store = settings.store(Store.VISIBILITY)
    with ExitStack() as stack:
        conns = tuple(stack.enter_context(closing(connection.connect(store, interrupt, patience=10))) for _ in range(3))
        held = stack.enter_context(
            advisory_lock.hold(store, interrupt, run="crew", waits=Waits(lock=10, database=10, heartbeat=10))
        )
        release = settings.release
        work = RunContext(
            conn=conns[0], release=release, settings=settings, store=store, lock=held, interrupt=interrupt
        )
        # A real one needs a plan of a rewrite, which is beside the point.
        tuner = Tuner(most=len(conns), fixed=True)
        throttle = SimpleNamespace(keep=lambda _: None, allowed=len(conns), tuner=tuner)
        pool = WorkerPool(work=work, conns=conns, throttle=throttle)  # type: ignore[arg-type]  # a stand-in, which never waits

        def job(conn: Connection) -> None:
            if conn is conns[1]:
                conn.execute("SELECT pg_sleep(0.5)")
                conn.execute("SELECT 1 / 0")
            conn.execute("SELECT pg_sleep(3600)")
            ended.append(conn)

        with pytest.raises(StatementFailed, match="division by zero"):
            pool.each(job)
    assert ended == []

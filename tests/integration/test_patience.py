"""Locks of others, autovacuum, races and a standby that does not answer: waited for, named, and never for ever."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql

from schema_migrator.commands import databases as commands
from schema_migrator.concurrency import Interrupt
from schema_migrator.demo.embedded_postgres import private_server
from schema_migrator.diagnosis.state import At
from schema_migrator.errors import CommitUnconfirmed
from schema_migrator.online import replay
from schema_migrator.online.source_table import SourceTable
from schema_migrator.online.worker_pool import WorkerPool
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.postgres.standbys import programs
from support.program.command import await_event, finish, run_cli, start_cli
from support.program.store_driver import site
from support.visibility import rewriting
from support.visibility.executions import TABLE, fill
from support.visibility.rewriting import Origin, events

ROWS = 300
AN_INDEX = "by_temporal_change_version"
LOCK = "LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE"
COMMANDS = {
    "status": ("status",),
    "plan": ("plan",),
    "verify": ("verify",),
    "migrate": ("migrate",),
    "wait": ("wait", "--for", "schema"),
}


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.9 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.9", ROWS)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_version_table_that_somebody_keeps_locked(databases: Databases, command: tuple[str, ...]) -> None:
    """Every command ends at its deadline, and names who holds the lock; a retry may help."""
    site(databases, "visibility").install()
    env = databases.env() | {"SCHEMA_MIGRATOR_STORES": "visibility", "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "2"}
    with databases.admin(databases.visibility) as holder:
        pid = holder.info.backend_pid
        holder.execute(f"BEGIN; {LOCK}".encode())
        ended = run_cli(env, *command)
        holder.execute("ROLLBACK")
    assert ended.code == 1, ended.stderr
    assert f"the locks are held by pid {pid} (" in ended.stderr.splitlines()[-1]
    assert run_cli(env, *command).code == 0


@pytest.mark.parametrize("command", ["status", "verify", "migrate"])
def test_a_version_table_that_is_locked_for_a_while(databases: Databases, command: str) -> None:
    """It is waited for."""
    site(databases, "visibility").install()
    with databases.admin(databases.visibility) as holder:
        holder.execute(f"BEGIN; {LOCK}".encode())
        process = start_cli(databases.env() | {"SCHEMA_MIGRATOR_STORES": "visibility"}, command)
        await_event(process, "table.busy")
        holder.execute("ROLLBACK")
        ended = finish(process)
    assert ended.code == 0, ended.stderr


def test_an_extension_that_somebody_creates_at_the_same_moment(databases: Databases) -> None:
    """Ours is tried again, and finds it there."""
    with databases.admin(databases.visibility) as other:
        other.execute("DROP EXTENSION IF EXISTS btree_gin")
        other.execute("BEGIN; CREATE EXTENSION btree_gin")
        # Long enough for ours to be in the midst of its own when the other one commits.
        env = databases.env() | {"SCHEMA_MIGRATOR_STORES": "visibility", "SCHEMA_MIGRATOR_DDL_LOCK_TIMEOUT": "20"}
        process = start_cli(env, "migrate", "--no-verify")
        while not other.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            assert process.poll() is None, finish(process)
        other.execute("COMMIT")
        ended = finish(process)
    assert ended.code == 0, ended.stderr
    assert "table.busy" in ended.stderr


def test_an_autovacuum_gives_way() -> None:
    """It is waited for once as long as it takes PostgreSQL to cancel it, and is called what it is."""
    settings = {"max_connections": "50", "autovacuum_naptime": "1s", "autovacuum_max_workers": "3"}
    with (
        private_server(settings=settings) as started,
        fresh(Engine.of(started)) as databases,
    ):
        site(databases, "visibility").install("1.9")
        with databases.connect("visibility") as owner, databases.admin(databases.visibility) as admin:
            fill(owner, 3000)
            slow = (
                "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1"
            )
            owner.execute(f"ALTER TABLE {TABLE} SET ({slow}, autovacuum_vacuum_scale_factor = 0)".encode())
            owner.execute(f"UPDATE {TABLE} SET task_queue = 'other'".encode())
            vacuuming = "SELECT FROM pg_stat_progress_vacuum WHERE relid = 'executions_visibility'::regclass"
            while not admin.execute(vacuuming).fetchall():
                admin.execute("SELECT pg_sleep(0.1)")
        ended = run_cli(databases.env() | {"SCHEMA_MIGRATOR_STORES": "visibility"}, "migrate", "--rewrite", "in-place")
    assert ended.code == 0, ended.stderr
    busy = [event for event in events(ended) if event["event"] == "table.busy"]
    assert any("(autovacuum" in str(event["held_by"]) for event in busy), busy


@pytest.fixture
def durable() -> Iterator[Databases]:
    """Start a server of its own, whose commits are synchronous."""
    with (
        private_server(settings={"max_connections": "50", "synchronous_commit": "on"}, bindir=programs()) as started,
        fresh(Engine.of(started)) as databases,
    ):
        yield databases


@contextmanager
def unconfirmed(admin: Connection) -> Iterator[None]:
    """Let commits wait for a standby that is not there."""
    admin.execute("SET synchronous_commit = local")
    try:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'")
        admin.execute("SELECT pg_reload_conf()")
        while admin.execute("SHOW synchronous_standby_names").fetchone() != ("gone",):
            pass
        yield
    finally:
        admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        admin.execute("SELECT pg_reload_conf()")


def test_what_runs_outside_a_transaction_waits_for_no_standby(durable: Databases) -> None:
    """No limit of the server's or of ours would end that wait; an index that is rebuilt is no record."""
    site(durable, "visibility").install()
    env = durable.env() | {"SCHEMA_MIGRATOR_STORES": "visibility", "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "2"}
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    with durable.admin(durable.visibility) as admin:
        admin.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{AN_INDEX}'::regclass".encode())
        with unconfirmed(admin):
            ended = run_cli(env, "migrate")
        assert admin.execute(invalid).fetchone() == (0,)
    assert ended.code == 0, ended.stderr


def test_a_standby_that_does_not_confirm(durable: Databases) -> None:
    """The commit is waited for as long as is set; then it is said that it is done here alone, and nothing goes on."""
    store = site(durable, "visibility").install("1.12")
    env = durable.env() | {"SCHEMA_MIGRATOR_STORES": "visibility", "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "2"}
    with durable.admin() as admin, unconfirmed(admin):
        ended = run_cli(env | {"SCHEMA_MIGRATOR_HEARTBEAT": "0.5"}, "migrate")
    assert ended.code == 1, ended.stderr
    assert "no synchronous standby has confirmed that" in ended.stderr.splitlines()[-1]
    waits = [event.get("waits_for") for event in events(ended) if event["event"] == "statement.running"]
    assert "a synchronous standby, to confirm the commit" in waits
    state = store.status().state
    assert isinstance(state, At)
    assert str(state.version) == "1.13"
    assert run_cli(env, "migrate").code == 0


def test_a_database_that_no_standby_confirms(durable: Databases) -> None:
    """PostgreSQL would wait for ever to create it, or to drop it: the wait has a limit, and what was done is said."""
    env = {**durable.env(), "SCHEMA_MIGRATOR_STORES": "default", "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "2"}
    env["DEFAULT_SQL_DATABASE"] = "coming"
    with durable.admin() as admin:
        admin.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(durable.user)))
        with unconfirmed(admin):
            created = run_cli(env, "create-database", "--through", "postgres")
        assert created.code == 1, created.stderr
        assert "no synchronous standby has confirmed that" in created.stderr.splitlines()[-1]
        assert admin.execute("SELECT count(*) FROM pg_database WHERE datname = 'coming'").fetchone() == (1,)
        settings = site(durable, "default", SCHEMA_MIGRATOR_WAIT_TIMEOUT="2").at("coming").settings()
        with unconfirmed(admin), pytest.raises(CommitUnconfirmed):
            commands.drop(settings, Interrupt(), through="postgres")
        assert admin.execute("SELECT count(*) FROM pg_database WHERE datname = 'coming'").fetchone() == (0,)


def test_readers_do_not_wait_for_a_standby(durable: Databases) -> None:
    """The cutover releases its lock when this server has committed; only the run waits for the confirmation."""
    made = rewriting.origin(durable, "1.12", ROWS)
    patience = {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "8", "SCHEMA_MIGRATOR_HEARTBEAT": "0.5"}
    with (
        made.held(made.database, **patience) as held,
        durable.admin() as admin,
        unconfirmed(admin),
    ):
        held.holder.execute("COMMIT")
        while await_event(held.process, "statement.running").get("waits_for") is None:
            pass
        with durable.connect_server(made.database, options="-c statement_timeout=1s") as reader:
            assert reader.execute(f"SELECT count(*) FROM {TABLE}".encode()).fetchone() == (ROWS,)
        ended = finish(held.process)
    assert ended.code == 1, ended.stderr
    assert "no synchronous standby has confirmed that" in ended.stderr.splitlines()[-1]
    assert site(durable, "visibility").at(made.database).migrate().plan.empty


def test_a_long_log_is_drained_in_rounds(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was replayed is vacuumed away now and then; the rows end as they were written last."""
    database = origin.copy()
    with origin.held(database) as held:
        held.kill()
    with origin.databases.connect(database) as owner:
        owner.execute(f"UPDATE {TABLE} SET task_queue = 'one'".encode())
        owner.execute(f"UPDATE {TABLE} SET task_queue = 'two'".encode())
    vacuumed, vacuum = [], replay.vacuum

    def counted(pool: WorkerPool, live: SourceTable) -> None:
        vacuumed.append(live)
        vacuum(pool, live)

    monkeypatch.setattr(replay, "vacuum", counted)
    for name, value in {"_MANY": 20, "_MOST": 20, "_ROUNDS": 5}.items():
        monkeypatch.setattr(replay, name, value)
    site(origin.databases, "visibility").at(database).migrate(SCHEMA_MIGRATOR_REWRITE="online")
    assert len(vacuumed) > 2
    with origin.databases.connect(database) as owner:
        assert owner.execute(f"SELECT DISTINCT task_queue FROM {TABLE}".encode()).fetchall() == [("two",)]

"""The rules of a rehearsal, each with what happens without it, and that it leaves nothing behind."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import psycopg
import pytest
from packaging.version import Version
from psycopg import sql
from structlog.testing import capture_logs

from schema_migrator.concurrency import Interrupt
from schema_migrator.diagnosis import rehearsal
from schema_migrator.diagnosis.state import At
from schema_migrator.errors import MigratorError, NotAsRehearsed, PreflightFailed, StatementFailed, StatementTimeout
from schema_migrator.postgres import server_errors, session_settings, transactions
from schema_migrator.postgres.transactions import Batch
from schema_migrator.releases.source import Source, SqlFile
from schema_migrator.releases.statements import Statement
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.program.command import finish, start_cli
from support.program.refusals import errors
from support.program.store_driver import Site, files, site
from support.waiting import await_true

SCRATCH = rehearsal.scratch_schema
SLOW_DDL = """
CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); END $$;
CREATE EVENT TRIGGER slow ON ddl_command_end EXECUTE FUNCTION slow();
"""
REHEARSING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%rehearsal'"
)


@contextmanager
def without_own_search_path(conn: Connection, statements: Collection[Statement]) -> Iterator[Batch]:
    """Rehearse with the live schema behind the scratch schema."""
    with SCRATCH(conn, statements) as sent:
        sent.path = f"{sent.schema}, public, pg_catalog"
        yield sent


@contextmanager
def without_the_view(conn: Connection, statements: Collection[Statement]) -> Iterator[Batch]:
    """Rehearse without the view that hides other schemas' tables."""
    with SCRATCH(conn, statements) as sent:
        sent.send(sql.SQL("DROP VIEW {}").format(sql.Identifier(sent.schema, "pg_class")))
        yield sent


def with_statement(store: str, statement: str) -> Source:
    """Return the steps of a store, the last of them followed by one more statement."""
    source = files(store)
    last = source.steps[-1]
    more = replace(last, files=(*last.files, SqlFile(name="more.sql", text=statement)))
    return replace(source, steps=(*source.steps[:-1], more))


def traces(connection: Connection, pid: int | None = None) -> list[tuple[object, ...]]:
    """Return what a rehearsal could leave: schemas, locks and open transactions of its backend."""
    schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'schema_migrator%'").fetchall()
    locks = connection.execute(
        "SELECT locktype, mode FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype IN ('relation', 'advisory')"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (%s::int IS NULL OR pid = %s)",
        [pid, pid],
    ).fetchall()
    return [*schemas, *locks, *connection.execute(REHEARSING).fetchall()]


@pytest.mark.parametrize("statement", ["DROP INDEX mine", "DROP TABLE mine_too", "ALTER TABLE mine_too ADD b int"])
def test_search_path_is_the_scratch_schema(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """What is missing in the scratch schema is an error; with a second schema it would be the live one's."""
    with databases.connect("default") as connection:
        connection.execute("CREATE TABLE mine_too (a int); CREATE INDEX mine ON mine_too (a)")
        with pytest.raises(StatementFailed, match="does not exist"):
            rehearsal.rehearse(connection, with_statement("default", statement))
        monkeypatch.setattr(rehearsal, "scratch_schema", without_own_search_path)
        with pytest.raises(StatementFailed, match="division by zero"):  # so the statement before did not fail
            rehearsal.rehearse(connection, with_statement("default", f"{statement}; SELECT 1/0"))
        assert connection.execute("SELECT to_regclass('mine')::text").fetchone() == ("mine",)


@pytest.mark.parametrize("statement", ["DROP INDEX mine", "ALTER TABLE mine_too ADD b int"])
def test_locks_on_live_tables_are_found(databases: Databases, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Were it not for the search_path, the locks would show that something live was touched."""
    monkeypatch.setattr(rehearsal, "scratch_schema", without_own_search_path)
    with databases.connect("default") as connection:
        connection.execute("CREATE TABLE mine_too (a int); CREATE INDEX mine ON mine_too (a)")
        with pytest.raises(MigratorError) as caught:
            rehearsal.rehearse(connection, with_statement("default", statement))
    assert caught.value.message == (
        "the rehearsal locked public.mine_too (AccessExclusiveLock) outside its scratch schema and was rolled back"
    )


def test_look_ups_by_name_alone(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """The DO blocks of 1.13 and 1.14 find one table, although three schemas have it."""
    with databases.connect("visibility") as connection:
        for schema in ("one", "two"):
            connection.execute(f"CREATE SCHEMA {schema} CREATE TABLE executions_visibility (a int)".encode())
        found = rehearsal.rehearse(connection, files("visibility"))
        assert "pg_class" not in {key.name for key in found.known}
        monkeypatch.setattr(rehearsal, "scratch_schema", without_the_view)
        with pytest.raises(StatementFailed, match="more than one row returned by a subquery"):
            rehearsal.rehearse(connection, files("visibility"))


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX mine",
        "DROP TABLE IF EXISTS mine_too; SELECT 1/0",
        "ALTER TABLE mine_too ADD b int",
        "ALTER TABLE IF EXISTS mine_too ADD b int; SELECT 1/0",
        "CREATE INDEX again ON mine_too (a)",
        "ALTER TABLE shards ADD b int REFERENCES mine_too",
        "CREATE TABLE next (LIKE mine_too)",
        "ALTER TABLE shards RENAME TO mine_too; DROP INDEX mine",
    ],
)
def test_an_extension_beside_the_tables_opens_no_way_to_them(databases: Databases, statement: str) -> None:
    """Only a statement on a table of the scratch schema sees the live schema, where the extension is."""
    with databases.connect("default") as connection:
        connection.execute("CREATE TABLE mine_too (a int PRIMARY KEY); CREATE INDEX mine ON mine_too (a)")
        with pytest.raises(StatementFailed, match=r"does not exist|division by zero"):
            rehearsal.rehearse(connection, with_statement("default", statement), beside="public")


def test_look_ups_in_the_information_schema(databases: Databases) -> None:
    """They find what the rehearsal itself has made, and nothing that is live."""
    look = "DO $$ BEGIN ASSERT (SELECT count(*) FROM information_schema.columns WHERE table_name = '{}') = {}; END $$"
    with databases.connect("default") as connection:
        connection.execute("CREATE TABLE shards (a int); CREATE TABLE mine (a int)")
        for table, count in (("shards", 4), ("mine", 0)):
            rehearsal.rehearse(connection, with_statement("default", look.format(table, count)))


def test_a_live_row_may_not_be_written(databases: Databases) -> None:
    """A statement that names the live schema itself is found by its locks, also a mere UPDATE."""
    with databases.connect("default") as connection:
        connection.execute("CREATE TABLE mine (a int)")
        with pytest.raises(MigratorError, match=r"locked public\.mine \(RowExclusiveLock\)"):
            rehearsal.rehearse(connection, with_statement("default", "UPDATE public.mine SET a = 1"))


def test_an_event_trigger_may_write(databases: Databases) -> None:
    """What somebody's event trigger notes about all DDL is no fault, and rolls back."""
    store = site(databases, "default")
    store.admin(
        "CREATE SCHEMA audit; CREATE TABLE audit.log (tag text); GRANT USAGE ON SCHEMA audit TO public;"
        "GRANT INSERT ON audit.log TO public;"
        "CREATE FUNCTION audit.note() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$ BEGIN INSERT INTO audit.log VALUES (tg_tag); END $$;"
        "CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION audit.note()"
    )
    with store.connect() as connection:
        rehearsal.rehearse(connection, files("default"))
    with databases.admin(store.name) as admin:
        assert admin.execute("SELECT count(*) FROM audit.log").fetchone() == (0,)


@pytest.mark.parametrize("statement", ["", "SELECT 1/0"])
def test_leaves_no_trace(databases: Databases, statement: str) -> None:
    """Afterwards, also after a failure, there is no schema, no lock, no setting, and the connection is idle."""
    settings = "SELECT name, setting FROM pg_settings WHERE name <> 'transaction_isolation' ORDER BY 1"
    with databases.connect("default") as connection, databases.admin(databases.default) as admin:
        before = connection.execute(settings).fetchall()
        try:
            rehearsal.rehearse(connection, with_statement("default", statement))
        except StatementFailed:
            assert statement
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert connection.execute(settings).fetchall() == before
        assert traces(admin) == []


def test_killed_in_the_middle(databases: Databases) -> None:
    """Nothing is left of a rehearsal whose process is killed: the server rolls it back."""
    store = site(databases, "visibility").install()
    store.admin(SLOW_DDL)
    before = store.picture()
    with databases.admin(store.name) as admin:
        process = start_cli(databases.env() | dict(store.variables), "verify")
        await_true(lambda: admin.execute(REHEARSING).fetchone())
        process.kill()
        assert finish(process).code < 0
        await_true(lambda: not traces(admin))
    assert store.picture() == before


def test_backend_terminated_in_the_middle(databases: Databases) -> None:
    """A rehearsal that loses its connection says so in one sentence, is worth another try, and leaves nothing."""
    store = site(databases, "visibility").install()
    store.admin(SLOW_DDL)
    with databases.admin(store.name) as admin:
        process = start_cli(databases.env() | dict(store.variables), "verify")
        await_true(lambda: admin.execute(REHEARSING).fetchone())
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM ({REHEARSING}) AS r".encode())
        done = finish(process)
        await_true(lambda: not traces(admin))
    assert done.code == 1
    address = f"{databases.user}@{databases.host}:{databases.port}/{store.name}"
    (said,) = errors(done)
    assert said.startswith(f"error: visibility: the connection to {address} broke: ")
    assert said.endswith("; run it again")


def forbidden(*_: object, **__: object) -> AbstractContextManager[Batch]:
    """Stand in for the scratch schema where nothing may be rehearsed."""
    raise AssertionError


def test_only_when_there_is_something_to_decide(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is rehearsed for an empty store, one at its target or one above it."""
    store = site(databases, "visibility")
    monkeypatch.setattr(rehearsal, "scratch_schema", forbidden)
    store.status()
    store.plan()
    store.migrate(SCHEMA_MIGRATOR_NO_VERIFY="true")
    store.status()
    assert store.plan().empty
    assert store.migrate().plan.empty
    assert store.migrate(VISIBILITY_TARGET_VERSION="1.9").plan.ahead


def test_no_more_often_than_needed(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to look, once under the lock; other releases only where their files make something else."""
    count: list[str] = []

    def counted(conn: Connection, statements: Collection[Statement]) -> AbstractContextManager[Batch]:
        count.append("rehearsal")
        return SCRATCH(conn, statements)

    monkeypatch.setattr(rehearsal, "scratch_schema", counted)
    store = site(databases, "default").install("1.18")
    store.migrate()
    assert len(count) == 2
    store.run("DROP TABLE tasks")
    assert not store.verify().equal
    assert len(count) == 3


@pytest.fixture
def poor(databases: Databases) -> Iterator[Site]:
    """Return a store whose role may not create schemas in the database."""
    store = site(databases, "default")
    store.admin(
        f'ALTER DATABASE "{store.name}" OWNER TO CURRENT_USER',
        f'GRANT USAGE, CREATE ON SCHEMA public TO "{databases.user}"',
    )
    yield store
    store.admin(f'ALTER DATABASE "{store.name}" OWNER TO "{databases.user}"')


def test_without_the_right_to_create_schemas(databases: Databases, poor: Site) -> None:
    """An installation is read back; an upgrade is refused, says what is missing and how to go without it."""
    said = f'it may not create the scratch schema of a rehearsal (that requires CREATE on "{poor.name}")'
    remedy = f'as its owner run: GRANT CREATE ON DATABASE "{poor.name}" TO "{databases.user}";'
    with capture_logs() as events:
        assert poor.migrate(DEFAULT_TARGET_VERSION="1.7").verdict is None
    with poor.connect() as owner:
        ((tables,),) = owner.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchall()
    read = [(event["version"], event["tables"]) for event in events if event["event"] == "schema.read_back"]
    assert read == [("1.7", tables - 2)]  # without the two that record versions
    refusal = poor.refused()
    assert isinstance(refusal, PreflightFailed)
    without = "or skip verification and online rewrites: --no-verify"
    assert refusal.detail == f"  - {said}\n    {remedy} {without}"
    blind = poor.given(SCHEMA_MIGRATOR_NO_VERIFY="true")
    assert blind.status().state == At(version=Version("1.7"), min_compatible=Version("1.0"))
    done = blind.migrate()
    assert [str(one.version) for one in done.outcomes] == [f"1.{minor}" for minor in range(8, 20)]
    assert done.verdict is None
    with pytest.raises(PreflightFailed) as caught:
        poor.verify()
    assert caught.value.message == f'role "{databases.user}": {said}'
    assert caught.value.hint == f"{remedy.removesuffix(';')}; or rehearse on another server: --rehearse-on"


def test_status_in_a_freeze(databases: Databases) -> None:
    """An event trigger that refuses DDL stops migrate with its words; status shows what is recorded, and says so."""
    store = site(databases, "default").install("1.7")
    store.admin(
        "CREATE FUNCTION public.frozen() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'frozen until Monday'; END $$",
        "CREATE EVENT TRIGGER frozen ON ddl_command_start EXECUTE FUNCTION public.frozen()",
    )
    with capture_logs() as events:
        found = store.status()
    assert (found.state, found.up_to_date) == (At(version=Version("1.7"), min_compatible=Version("1.0")), False)
    assert [one["reason"] for one in events if one["event"] == "rehearsal.refused"] == ["frozen until Monday"]
    assert "frozen until Monday" in store.refused().message


def test_looks_have_their_own_limit(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a rehearsal, and for any other look that is cancelled, the hint names no setting that changes nothing."""
    store = site(databases, "default").settings().stores[0]
    looks: list[Callable[[Connection], object]] = [
        lambda conn: rehearsal.rehearse(conn, with_statement("default", "SELECT pg_sleep(3)")),
        lambda conn: transactions.ask(conn, "SELECT pg_sleep(3)"),
    ]
    short = replace(session_settings.LOOK, statement=1)
    for module in (session_settings, transactions):
        monkeypatch.setattr(module, "LOOK", short)
    for look in looks:
        with (
            databases.connect("default") as conn,
            pytest.raises(StatementTimeout) as caught,
            server_errors.translated(store, Interrupt()),
        ):
            look(conn)
        assert caught.value.hint == server_errors.OWN_LIMIT


def test_an_installation_that_is_not_whole(poor: Site) -> None:
    """Read back without a rehearsal, it still tells that another hand took a table and a primary key."""
    poor.admin(
        """CREATE FUNCTION public.meddle() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF to_regclass('public.nexus_endpoints') IS NOT NULL
               AND to_regclass('public.queue_metadata') IS NOT NULL
             THEN
               DROP TABLE public.queue_metadata;
               ALTER TABLE public.queue DROP CONSTRAINT queue_pkey;
             END IF; END $$""",
        "CREATE EVENT TRIGGER meddle ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.meddle()",
    )
    with pytest.raises(NotAsRehearsed) as caught:
        poor.migrate()
    assert caught.value.message == (
        "the installation was committed, but is incomplete when read back: without the tables queue_metadata;"
        " without a primary key: queue"
    )


def test_half_applied_without_the_right_to_create_schemas(poor: Site) -> None:
    """A step that was begun cannot be resumed blindly: its statement fails, and nothing of the run remains."""
    poor.install("1.9").begin("1.10", 1)
    refusal = poor.given(SCHEMA_MIGRATOR_NO_VERIFY="true").refused()
    assert isinstance(refusal, StatementFailed)
    assert 'relation "task_queue_user_data" already exists' in refusal.message

"""An upgrade of tables with rows that is killed, the vendor's or ours: the next run of ours loses no value."""

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from psycopg import sql

from schema_migrator.errors import ConnectionLost
from schema_migrator.planning.plan import SMALL_TABLE_BYTES
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.postgres.proxy import Options, Proxy
from support.postgres.rows import contents, fill
from support.program.references import latest, picture, start_by_vendor
from support.vendor.kill_sweep import KINDS, copy, differences, migrate
from support.vendor.tool import VendorError, VendorTool
from support.visibility.traffic import fill_large
from support.waiting import await_one

BEFORE_THE_STEP = 4
"""Messages of update-schema before the first statement: a ping, and a SELECT with two Syncs."""
ADDED_AGAIN = {
    ("default", "1.15", "1.16"): ("current_executions", {"data_encoding": 2}),
    ("visibility", "1.5", "1.6"): ("executions_visibility", {"root_workflow_id": 5, "root_run_id": 6}),
}
"""Store, version, next version: the table, and with which statement each of its columns is there again."""
STOPS = [(*key, done) for key, last in zip(ADDED_AGAIN, (2, 8), strict=True) for done in range(last + 1)]
WRITE = "UPDATE {table} SET {column} = 'written' WHERE ctid = (SELECT min(ctid) FROM {table})"
HELD_EXCLUSIVELY = """
SELECT pid FROM pg_locks
WHERE relation = 'executions_visibility'::regclass AND mode = 'AccessExclusiveLock' AND granted
"""
BUILDS = """
SELECT pid FROM pg_stat_progress_create_index
WHERE datname = current_database() AND phase = 'waiting for writers before build'
"""
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


def upgraded(tool: VendorTool, store: str, database: str) -> str:
    """Return a copy that the vendor's tool has brought to its release's last version."""
    copied = copy(tool.databases, database)
    tool.update(store, database=copied)
    return copied


def stop_update(tool: VendorTool, store: str, database: str, done: int) -> None:
    """Let the vendor's tool go on, and stop it after some statements of its next step."""
    where = tool.databases
    options = Options(
        host=where.host,
        port=where.port,
        cut_at=BEFORE_THE_STEP + max(done, 1),
        cut_after=done > 0,
        cut_kinds=KINDS,
        final=True,
    )
    with Proxy(options) as proxy, pytest.raises(VendorError):
        VendorTool(version=tool.version, databases=where.via(proxy.port)).update(store, database=database)


def write(connection: Connection, table: str, columns: list[str]) -> None:
    """Write to some columns of one row, as a server that goes on working."""
    for column in columns:
        names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
        connection.execute(sql.SQL(WRITE).format(**names))


@pytest.mark.parametrize(("store", "version", "step", "done"), STOPS)
def test_columns_that_are_added_again(databases: Databases, store: str, version: str, step: str, done: int) -> None:
    """What was written to a column after it was added again stays; all else is as the vendor's tool leaves it."""
    table, columns = ADDED_AGAIN[store, version, step]
    tool = VendorTool(version="1.29.1", databases=databases)
    start_by_vendor(databases, store, ("1.29.1", version))
    with databases.connect(store) as connection:
        fill(connection)
    expected = upgraded(tool, store, databases.name(store))
    stop_update(tool, store, databases.name(store), done)
    added = [column for column, statement in columns.items() if done >= statement]
    for database in (databases.name(store), expected):
        with databases.connect(database) as connection:
            write(connection, table, added)
    migrate(databases, "1.29.1", store, databases.name(store))
    assert_equal(databases, databases.name(store), expected)


def assert_equal(databases: Databases, found: str, expected: str) -> None:
    """See that two databases have the same schema, version and rows."""
    assert differences(picture(databases, found), picture(databases, expected)) == []
    with databases.connect(found) as one, databases.connect(expected) as other:
        assert contents(one) == contents(other)


def kill_a_build(databases: Databases, database: str) -> None:
    """Kill the first CREATE INDEX CONCURRENTLY after an ALTER TABLE while it waits for a writer; roll that back.

    The writer queues behind the ALTER TABLE, so that it has its lock before any index is begun.
    """
    with databases.admin(database) as admin, databases.connect(database) as writer:
        await_pid(admin, HELD_EXCLUSIVELY)
        with writer.transaction(force_rollback=True):
            writer.execute("LOCK TABLE executions_visibility IN ROW EXCLUSIVE MODE")
            admin.execute("SELECT pg_terminate_backend(%s, 10000)", [await_pid(admin, BUILDS)])
        assert admin.execute(INVALID).fetchall()


def await_pid(admin: Connection, query: str) -> int:
    """Wait until there is a backend of the kind."""
    return int(await_one(lambda: admin.execute(query.encode()).fetchall())[0])


@pytest.fixture
def origin(databases: Databases) -> Callable[[str], str]:
    """Return what makes a visibility store at a version with a table that is not small."""

    def make(version: str) -> str:
        start_by_vendor(databases, "visibility", ("1.32.2", version))
        with databases.connect("visibility") as connection:
            fill_large(connection)
            row = connection.execute("SELECT pg_total_relation_size('executions_visibility')").fetchone()
        assert row is not None
        assert row[0] > SMALL_TABLE_BYTES
        return databases.visibility

    return make


def run_vendor(databases: Databases, database: str) -> None:
    """Let the vendor's tool go on: it connects again, takes the invalid index for done, and records the version."""
    with suppress(VendorError):
        VendorTool(version="1.32.2", databases=databases).update("visibility", database=database)


def stop_vendor(databases: Databases, database: str) -> None:
    """Let the vendor's tool go on until it is killed with its connection: the first build is the last statement."""
    options = Options(host=databases.host, port=databases.port, cut_at=BEFORE_THE_STEP + 4, cut_kinds=KINDS, final=True)
    with Proxy(options) as proxy:
        run_vendor(databases.via(proxy.port), database)


def run_ours(databases: Databases, database: str) -> None:
    """Let ours go on, to be killed."""
    with suppress(ConnectionLost):
        migrate(databases, "1.32.2", "visibility", database)


@pytest.mark.parametrize("version", ["1.12", "1.13"])
@pytest.mark.parametrize("killed", [run_vendor, stop_vendor, run_ours])
def test_an_index_build_is_killed(
    databases: Databases, origin: Callable[[str], str], killed: Callable[[Databases, str], None], version: str
) -> None:
    """The index that was left invalid is built, and every row is as an upgrade by the vendor's tool leaves it."""
    database = origin(version)
    expected = upgraded(VendorTool(version="1.32.2", databases=databases), "visibility", database)
    run = threading.Thread(target=killed, args=(databases, database))
    run.start()
    kill_a_build(databases, database)
    run.join()
    done = migrate(databases, "1.32.2", "visibility", database)
    assert str(done.plan.target) == latest("1.32.2", "visibility")
    assert_equal(databases, database, expected)
    with databases.connect(database) as connection:
        assert connection.execute(INVALID).fetchall() == []

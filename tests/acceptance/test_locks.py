"""On a store in use nobody waits long for us, however long we have to wait for others."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.program.command import await_event, finish, run_cli, started
from support.program.references import NEWEST, References, newest, picture, start_by_vendor
from support.visibility.traffic import Writer, fill
from support.waiting import await_true

START = (NEWEST, "1.12")
"""What comes next, 1.13, alters the table that the servers write to; 1.12 itself changes nothing."""
OUR_QUEUE = """
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = 'executions_visibility'::regclass AND a.application_name LIKE 'schema-migrator/%'
"""
SAMPLES = 60
PAUSE = 0.05


@pytest.fixture
def env(databases: Databases) -> dict[str, str]:
    """Let the vendor's tool make the start, with rows; return the environment for the visibility store."""
    start_by_vendor(databases, "visibility", START)
    with databases.connect("visibility") as connection:
        fill(connection)
    return databases.env() | {"SCHEMA_MIGRATOR_STORES": "visibility"}


@contextmanager
def long_writer(databases: Databases) -> Iterator[Connection]:
    """Keep a transaction open that has written to the table."""
    with databases.connect("visibility") as connection, connection.transaction():
        connection.execute("UPDATE executions_visibility SET status = 2 WHERE status = 99")
        yield connection


def queues(connection: Connection) -> bool:
    """Return whether ours holds or awaits a lock on the table right now."""
    row = connection.execute(OUR_QUEUE).fetchone()
    return row is not None and row[0] > 0


def queued(connection: Connection) -> list[bool]:
    """From ours' first try on, look for three seconds, again and again, whether it holds or awaits a lock."""
    await_true(lambda: queues(connection))
    found = []
    for _ in range(SAMPLES):
        found.append(queues(connection))
        time.sleep(PAUSE)
    return found


def test_writers_do_not_queue_behind_us(databases: Databases, references: References, env: dict[str, str]) -> None:
    """While a long transaction keeps the table, ours tries, lets go and tries again, and ends when that one does."""
    with Writer(databases=databases) as writer, databases.admin(databases.visibility) as admin:
        with long_writer(databases), started(env) as ours:
            tries = queued(admin)
            await_event(ours, "table.busy")
            assert ours.poll() is None
        ended = finish(ours)
    assert ended.code == 0, ended
    assert tries.count(False) > tries.count(True)
    assert writer.error is None
    assert writer.longest < 1.0
    assert picture(databases, "visibility") == references.picture("visibility", START, newest("visibility"))


def test_a_table_that_stays_busy_ends_the_run(
    databases: Databases, references: References, env: dict[str, str]
) -> None:
    """At the deadline ours gives up with 1, says who holds the table, and has changed nothing."""
    with long_writer(databases) as holder:
        ended = run_cli(env | {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "2"}, "migrate")
        pid = holder.info.backend_pid
    assert ended.code == 1
    assert f"pid {pid} " in ended.stderr
    assert "other sessions held a lock on a table" in ended.stderr
    assert picture(databases, "visibility") == references.picture("visibility", START)

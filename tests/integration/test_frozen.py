"""A client that is stopped without an end, as by SIGSTOP or a suspended node: the server ends its transaction."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from support.postgres.databases import fresh
from support.postgres.engine import Connection, Engine
from support.postgres.holds import ddl_held, rows_held
from support.program.command import finish, killed_on_failure
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.rewriting import Origin
from support.waiting import PATIENCE

# Only what holds the cutover's lock is held up.
UNDER_THE_LOCK = f"""
CREATE OR REPLACE FUNCTION own.closed(query text) RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog AS $$
  SELECT EXISTS (SELECT FROM own.shut) AND EXISTS (
    SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock'
      AND relation = 'public.{TABLE}'::regclass)
$$
"""
ONE_WRITE = f"UPDATE {TABLE} SET workflow_type_name = 'written' WHERE run_id = (SELECT min(run_id) FROM {TABLE})"
HOLDERS = f"""
SELECT a.state FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND l.relation = 'public.{TABLE}'::regclass
"""


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.9 with some rows."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.9", 50)


def await_holders(admin: Connection, expected: list[str]) -> None:
    """Wait until those who hold the table's lock are in those states."""
    deadline = time.monotonic() + PATIENCE
    while (states := [state for (state,) in admin.execute(HOLDERS.encode()).fetchall()]) != expected:
        assert time.monotonic() < deadline, states
        time.sleep(0.05)


def test_under_the_cutovers_lock(origin: Origin) -> None:
    """The lock is free after seconds, the table is the old one, and the next run resumes."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, rows_held(admin) as hold, origin.held(database) as held:
        admin.execute(UNDER_THE_LOCK.encode())
        hold.at("all")
        held.holder.execute("COMMIT")
        admin.execute("SET lock_timeout = '2s'")
        with suppress(psycopg.errors.LockNotAvailable):  # until there is something to be replayed under the lock
            while held.process.poll() is None:
                admin.execute(ONE_WRITE.encode())
        hold.await_sleeper()
        held.process.send_signal(signal.SIGSTOP)
        hold.open()
        await_holders(admin, ["idle in transaction"])
        await_holders(admin, [])
        admin.execute(ONE_WRITE.encode())
        held.process.send_signal(signal.SIGCONT)
        ended = finish(held.process)
    assert ended.code == 1, ended.stderr
    again = origin.run(database)
    assert (again.code, "online.resumed" in again.stderr) == (0, True), again.stderr


def test_in_a_step(origin: Origin) -> None:
    """The server sees a transaction that nobody goes on with, and so its own limit ends it."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, ddl_held(admin, "step") as hold:
        process = origin.migrate(database, "--rewrite", "in-place")
        with killed_on_failure(process):
            hold.await_sleeper()
            process.send_signal(signal.SIGSTOP)
            hold.open()
            hold.await_rows(
                "SELECT FROM pg_stat_activity WHERE application_name LIKE '% worker %' AND state LIKE 'idle in%'"
            )
            process.send_signal(signal.SIGCONT)
            ended = finish(process)
    assert ended.code == 0, ended.stderr

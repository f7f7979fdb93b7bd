"""The swap: one short transaction under the lock in which the shadow takes the table's place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from schema_migrator import database, fenced, logs, records, replay, shadow, tables
from schema_migrator.errors import NotAsRehearsed, TableChanged, TableLockTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.database import Connection
    from schema_migrator.plan import Online, Plan, PlannedStep
    from schema_migrator.reshape import Shape
    from schema_migrator.shadow import Live
    from schema_migrator.work import Work

# Every transaction holds its virtualxid. Of a session that we may look into, one without a snapshot is harmless.
_ALIVE = """
SELECT l.pid, l.virtualxid, coalesce(a.application_name, '') FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.granted AND l.mode = 'ExclusiveLock' AND a.datname = current_database()
  AND a.usesysid IS NOT NULL AND a.application_name NOT LIKE %s AND l.pid <> pg_backend_pid()
  AND (a.state IS NULL OR a.backend_xmin IS NOT NULL)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """The transactions that were open when the last row had been copied, by pid and virtual id."""

    found: frozenset[tuple[int, str]]


def readers(conn: Connection) -> Readers:
    """Return whose snapshots may be older than the shadow's rows; to those it would look empty."""
    return Readers(found=frozenset((pid, transaction) for pid, transaction, _ in _alive(conn)))


def await_readers(work: Work, live: Live, old: Readers) -> None:
    """Wait until they have ended. Raises TableLockTimeout at the deadline, naming them."""
    started, beat = time.monotonic(), logs.Beat(seconds=work.settings.run.heartbeat)
    while left := [(pid, name) for pid, transaction, name in _alive(work.conn) if (pid, transaction) in old.found]:
        named = ", ".join(f"pid {pid} ({name or 'unnamed'})" for pid, name in left)
        if time.monotonic() - started > work.settings.run.wait_timeout:
            raise TableLockTimeout(
                f'transactions are older than the copied rows of "{live.table}" and would not see them: {named}',
                hint="end them or let them end, then run it again: it carries on; or migrate --abandon",
            )
        if beat.due():
            logs.logger().info("online.waiting", table=live.table, for_old_snapshots_of=named)
        work.interrupt.sleep(0.2)


def _alive(conn: Connection) -> list[tuple[int, str, str]]:
    return database.ask(conn, _ALIVE, [f"{database.APPLICATION}%"])


def swap(
    work: Work, plan: Plan, online: Online, steps: Sequence[PlannedStep], live: Live, columns: Sequence[str]
) -> float:
    """Replay the rest, swap the tables, prove the result and record the steps; return the seconds under the lock.

    Raises TableLockTimeout where the lock cannot be had, TableChanged where the table is no longer what was
    copied, NotAsRehearsed where the result is not what the files make; then nothing of it remains.
    """
    assert online.shape is not None  # noqa: S101 - a plan has no online steps without
    with (
        database.translated(work.store, work.interrupt),
        fenced.transaction(work, plan, steps[-1].step.version, steps[0]) as sent,
    ):
        conn = work.conn
        conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(live.schema, live.table)))
        conn.execute("SELECT 1").fetchone()  # nothing that was sent before is waited for until then
        started = time.monotonic()
        assert_same(conn, live, online.shape)
        replay.assert_little(conn, live)
        replay.finish(conn, live, columns)
        shadow.retire(conn, live, online, kept=work.settings.run.keep_old)
        wrong = fenced.deviations(conn, live.schema, online.shape.touched, online.shape.end)
        if wrong:
            raise NotAsRehearsed(
                f'the rewritten table "{live.table}" does not end as rehearsed and was not put in place: {wrong}',
                hint="take --rewrite in-place, and see schema-migrator verify for what is special about this database",
            )
        for step in steps:
            records.move(sent, plan.database, step.step, step.previous)
    return time.monotonic() - started


def assert_same(conn: Connection, live: Live, shape: Shape) -> None:
    """Raise TableChanged unless the live table is as it was when the copy began, and its changes are logged.

    Nor may there be anything by now that forbids an online rewrite.
    """
    now = shadow.look(conn, live.schema, shape)
    if now is None or now.fingerprint != live.fingerprint or not shadow.watched(conn, live):
        raise TableChanged(
            f'the table "{live.table}" was truncated or altered while it was written anew',
            hint="run it again: it starts anew from what is there now",
        )
    new = ", ".join(tables.hindrances(conn, live.schema).get(live.table, ()))
    if new:
        raise TableChanged(
            f'while the table "{live.table}" was written anew, it got what would have stayed with the old one: {new}',
            hint="run plan: it says what that means for the rewrite",
        )

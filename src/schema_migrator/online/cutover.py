"""The cutover: one short transaction in which the shadow table replaces the live one, under an exclusive lock.

Before it, transactions with older snapshots must have ended. Renaming and moving the tables is in `shadow_table`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator import events
from schema_migrator.concurrency import polls
from schema_migrator.errors import NotAsRehearsed, RewriteBlocked, TableChanged, TableLockTimeout
from schema_migrator.online import catalog_comparison, change_log, replay, shadow_table, source_table
from schema_migrator.planning import tables
from schema_migrator.postgres import activity, server_errors, transactions
from schema_migrator.runs import guarded, version_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.planning.plan import Online, PlannedStep
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext
    from schema_migrator.runs.expected import Expected

# A client that is suspended while it holds the lock keeps it for at most this long. A running client sends its next
# statement within milliseconds.
_LEFT_ALONE: LiteralString = "SET LOCAL idle_in_transaction_session_timeout = '3s'"
# The result has 64 bits, a session's backend_xmin has the lower 32. PostgreSQL 12 has the function only by this name.
_NEXT: LiteralString = "SELECT mod(txid_snapshot_xmax(txid_current_snapshot()), 4294967296)::text"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRewrite:
    """The rewrite of one table: what the store is expected to be at, the plan of it, its steps, and the live table.

    `columns`: the names of the columns that are copied.
    """

    expected: Expected
    online: Online
    steps: Sequence[PlannedStep]
    live: SourceTable
    columns: Sequence[str]

    @property
    def shape(self) -> TargetShape:
        """The shape that the table gets."""
        assert self.online.shape is not None  # noqa: S101 - a plan with online steps has one
        return self.online.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class OldSnapshots:
    """The transactions that were open at one moment, as (pid, virtual id), and the next xid then."""

    found: frozenset[tuple[int, str]]
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """A transaction of another session; `older`: its snapshot may be older than the next xid of OldSnapshots."""

    transaction: tuple[int, str]
    name: str
    older: bool


def old_snapshots(conn: Connection) -> OldSnapshots:
    """Return the transactions whose snapshots are older than now; to them the copied table would look empty."""
    ((number,),) = transactions.ask(conn, _NEXT)
    return OldSnapshots(found=frozenset(reader.transaction for reader in _alive(conn, number)), next=number)


def await_old_snapshots(work: RunContext, live: SourceTable, drain: Callable[[], None]) -> None:
    """Wait until the transactions that are open now, and any that may have imported their snapshots, have ended.

    They would not see the rows that were copied or replayed after they began. `drain` is called between the looks, so
    that few rows are replayed late. Raises TableLockTimeout at the deadline, naming them.
    """
    run, old = work.settings.run, old_snapshots(work.conn)
    beat, watched, may_import = events.Interval(seconds=run.heartbeat), set(old.found), True
    for poll in polls(work.interrupt, limit=run.wait_timeout, pause=0.2):
        alive = _alive(work.conn, old.next)
        if may_import:
            watched |= {reader.transaction for reader in alive if reader.older}
        may_import = any(reader.transaction in old.found for reader in alive)
        named = ", ".join(reader.name for reader in alive if reader.transaction in watched)
        if not named:
            return
        if poll.late:
            raise TableLockTimeout(
                f'transactions are older than the copied rows of "{live.table}" and would not see them: {named}',
                hint="end them or wait for them, then run it again: it resumes; or migrate --abandon",
            )
        if beat.due():
            events.logger().info("online.waiting_for_snapshots", table=live.table, sessions=named)
        drain()


def _alive(conn: Connection, number: str) -> list[_Reader]:
    return [
        _Reader(transaction=(pid, transaction), name=f"pid {pid} ({name or 'unnamed'})", older=bool(older))
        for pid, transaction, name, older in transactions.ask(conn, activity.OPEN_SNAPSHOTS, [number])
    ]


def cut_over(work: RunContext, rewrite: TableRewrite) -> float:
    """Replay the rest, exchange the tables, verify the result and record the steps; return the seconds under the lock.

    Raises TableLockTimeout if the lock is not granted, TableChanged if the table is no longer what was copied, and
    NotAsRehearsed if the result is not what the files produce. In each case everything is rolled back.
    """
    live, shape = rewrite.live, rewrite.shape
    with (
        server_errors.translated(work.store, work.interrupt),
        guarded.transaction(work, rewrite.expected) as sent,
    ):
        conn = work.conn
        conn.execute(_LEFT_ALONE)
        conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(live.schema, live.table)))
        conn.execute("SELECT 1").fetchone()  # waits for the lock; until here, statements were only sent
        started = time.monotonic()
        now = assert_untouched(conn, live, shape)
        replay.assert_little(conn, live)
        replay.finish(conn, live, rewrite.columns)
        shadow_table.retire(conn, live, rewrite.online, kept=work.settings.run.keep_old)
        assert_alike(conn, now, shape, live.schema, live.table)
        wrong = guarded.deviations(conn, live.schema, shape.touched, shape.end)
        if wrong:
            raise NotAsRehearsed(
                f'the rewritten table "{live.table}" differs from its rehearsal and was not put in place: {wrong}',
                hint="use --rewrite in-place, and see schema-migrator verify for how this database differs",
            )
        for step in rewrite.steps:
            version_table.move(sent, rewrite.expected.database, step.step, step.previous)
    return time.monotonic() - started


def assert_same(conn: Connection, live: SourceTable, shape: TargetShape) -> None:
    """Raise TableChanged unless the live table is as it was when the copy began, and its changes are logged.

    Raises RewriteBlocked if the table has a blocker by now.
    """
    assert_untouched(conn, live, shape)
    _assert_free(live, ", ".join(tables.rewrite_blockers(conn, oids=[live.oid]).get(live.table, ())))


def assert_untouched(conn: Connection, live: SourceTable, shape: TargetShape) -> SourceTable:
    """Return the live table as it is now. Raises TableChanged if it is not as it was when the copy began."""
    now = source_table.look(conn, live.schema, shape)
    if now is None or now.fingerprint != live.fingerprint or not change_log.watched(conn, live):
        raise TableChanged(
            f'the table "{live.table}" was truncated or altered during the rewrite',
            hint="run it again: it starts over from the current table",
        )
    return now


def assert_alike(conn: Connection, live: SourceTable, shape: TargetShape, schema: str, table: str) -> None:
    """Compare the new table, which is `table` in `schema`, with the live one, whose catalog snapshot was just taken.

    Raises NotAsRehearsed if they differ in more than what the steps change, and RewriteBlocked if the live table has a
    blocker by now.
    """
    oid, _ = source_table.locate(conn, schema, table) or (0, 0)
    blockers, new = tables.rewrite_blockers(conn, oids=[live.oid, oid]), catalog_comparison.take(conn, oid, new=True)
    bare = not any(properties.get("contype") == "p" for properties in new.values())  # its indexes are not built yet
    own = [blocker for blocker in blockers.pop(table, ()) if not (bare and blocker == "no primary key")]
    _assert_free(live, ", ".join(blocker for found in blockers.values() for blocker in found))
    wrong = [*(catalog_comparison.differences(live.picture, new, shape, bare=bare) if new else ["it is gone"]), *own]
    if wrong:
        raise NotAsRehearsed(
            f'the rewritten table "{live.table}" differs from the old one and was not put in place: {"; ".join(wrong)}',
            hint="remove what makes it differ, for example an event trigger, or use --rewrite in-place",
        )


def _assert_free(live: SourceTable, forbidden: str) -> None:
    if forbidden:
        raise RewriteBlocked(
            f'while the table "{live.table}" was rewritten, it gained what would have stayed with the old table:'
            f" {forbidden}",
            hint="remove that and run it again: it resumes",
        )

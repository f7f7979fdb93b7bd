"""The online rewrite: a table in its new structure beside the old one, filled while everybody works, then swapped.

As pg_repack does it (https://reorg.github.io/pg_repack): a trigger logs the keys that change, rows are copied in
batches, indexes are built where nobody waits for them, and the log is replayed from the live rows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator import events
from schema_migrator.catalog.leftovers import ROWS
from schema_migrator.errors import (
    MigratorError,
    NoSpace,
    NotAsRehearsed,
    StatementFailed,
    TableChanged,
)
from schema_migrator.online import (
    backfill,
    cleanup,
    copy_proof,
    cutover,
    index_builds,
    preparation,
    replay,
    source_table,
    value_checks,
    worker_pool,
)
from schema_migrator.online.preparation import target_shape
from schema_migrator.postgres import server_errors, session_settings, transactions
from schema_migrator.runs import guarded

if TYPE_CHECKING:
    from schema_migrator.online.cutover import OldSnapshots
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.planning.plan import Online, Plan, PlannedStep
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.runs.context import RunContext


def run(work: RunContext, plan: Plan, online: Online, steps: Sequence[PlannedStep]) -> float:
    """Rewrite the table and record the steps; return the seconds that its lock was held.

    What the next run can carry on with is left for it, and the error says so; after TableChanged, NotAsRehearsed and
    NoSpace not a trace is left. Raises MigratorError.
    """
    try:
        with server_errors.translated(work.store, work.interrupt), worker_pool.open_pool(work) as conns:
            live = preparation.begin(work, conns, plan, online, steps)
            those = preparation.pool_of(work, conns, online, live)
            columns = source_table.columns(work.conn, live, target_shape(online), computed=False)
            with _explained(those, live, online):
                old = _fill(those, live, online, columns)
                _settle(work, those, live, online, columns, old)
                locked = _cut_over(those, plan, online, steps, live, columns)
    except MigratorError as error:
        gone = isinstance(error, TableChanged | NotAsRehearsed | NoSpace) and cleanup.removed(work, plan.schema)
        if not gone and "--abandon" not in error.hint:
            error.hint = "; ".join(filter(None, [error.hint, cleanup.remaining(work, plan.schema)]))
        raise
    cleanup.tidy(work, plan.schema)
    return locked


@contextmanager
def _explained(those: WorkerPool, live: SourceTable, online: Online) -> Iterator[None]:
    """Look for what is behind a refused statement: a table altered in the meantime, or a value that does not fit."""
    try:
        yield
    except StatementFailed as error:
        with suppress(psycopg.Error), those.transaction(those.conns[0], live.schema):
            cutover.assert_untouched(those.conns[0], live, target_shape(online))
        if value_checks.of_values(error.__cause__):
            value_checks.check(replace(those, failed=threading.Event()), live, online, begun=True)
        raise


def _fill(those: WorkerPool, live: SourceTable, online: Online, columns: Sequence[str]) -> OldSnapshots:
    """Copy all rows, then build the indexes; return the transactions to which the rows may be too new."""
    started = time.monotonic()
    rows = backfill.fill(those, live, columns)
    old = cutover.old_snapshots(those.work.conn)
    events.logger().info("online.copied", table=live.table, rows=rows, seconds=round(time.monotonic() - started, 1))
    index_builds.build(those, live, target_shape(online))
    return old


def _settle(
    work: RunContext, those: WorkerPool, live: SourceTable, online: Online, columns: Sequence[str], old: OldSnapshots
) -> None:
    """Catch up with the writers, and let the new table be as fit as a table is that has been in use for long."""
    _drain(those, live, online, columns)
    _vacuum(those, live)
    copy_proof.prove(those, live, target_shape(online))
    _compare(those, live, target_shape(online))
    cutover.await_old_snapshots(work, live, old)


def _compare(those: WorkerPool, live: SourceTable, shape: TargetShape) -> None:
    """Find out before the lock what the comparison under it would refuse."""
    conn = those.conns[0]
    with server_errors.translated(those.work.store, those.work.interrupt), those.transaction(conn, live.schema):
        cutover.assert_alike(conn, cutover.assert_untouched(conn, live, shape), shape, live.ours, ROWS)


def _drain(those: WorkerPool, live: SourceTable, online: Online, columns: Sequence[str]) -> None:
    """Replay until little is left. Raises TableChanged where the table was emptied, and logged rows with it."""
    try:
        replay.drain(those, live, columns)
    except NotAsRehearsed:
        with those.transaction(those.conns[0], live.schema):
            cutover.assert_same(those.conns[0], live, target_shape(online))
        raise


def _vacuum(those: WorkerPool, live: SourceTable) -> None:
    conn, limits = those.conns[0], session_settings.Limits(table_lock=0, statement=0)
    with transactions.session(conn, limits, name=those.work.lock.worker):
        conn.execute("SET max_parallel_maintenance_workers = 0")  # a container's /dev/shm may not hold what they share
        conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(live.ours, ROWS)))


def _cut_over(
    those: WorkerPool,
    plan: Plan,
    online: Online,
    steps: Sequence[PlannedStep],
    live: SourceTable,
    columns: Sequence[str],
) -> float:
    locked: list[float] = []

    def attempt(work: RunContext) -> None:
        with server_errors.translated(those.work.store, those.work.interrupt):
            _drain(those, live, online, columns)
        locked.append(cutover.cut_over(work, plan, online, steps, live, columns))

    guarded.retried(those.work, str(online.versions[-1]), [online.table], attempt)
    events.logger().info("online.cut_over", table=online.table, locked_seconds=round(locked[-1], 3))
    return locked[-1]

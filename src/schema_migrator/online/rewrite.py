"""The stages of the online rewrite: fill a table of the new structure while the old one stays in use, then cut over.

It works like pg_repack (https://reorg.github.io/pg_repack): a trigger logs the keys of rows that change, rows are
copied in batches, indexes are built on the copy, which is not in use, and the change log is replayed from the live
rows. Each stage has a module of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator import events
from schema_migrator.catalog.leftovers import ROWS
from schema_migrator.errors import (
    CutoverNotRequested,
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
    cutover_turns,
    holding,
    index_builds,
    preparation,
    replay,
    source_table,
    value_checks,
    worker_pool,
)
from schema_migrator.online.cutover import TableRewrite
from schema_migrator.online.preparation import target_shape
from schema_migrator.postgres import server_errors, session_settings, transactions
from schema_migrator.runs import guarded

if TYPE_CHECKING:
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.planning.plan import Online, PlannedStep
    from schema_migrator.runs.context import RunContext
    from schema_migrator.runs.expected import Expected


def run(work: RunContext, expected: Expected, online: Online, steps: Sequence[PlannedStep]) -> float:
    """Rewrite the table and record the steps; return the seconds that its lock was held.

    Raises MigratorError. What the next run can resume is kept, and the error says so. After TableChanged,
    NotAsRehearsed and NoSpace everything is removed, unless the removal fails.
    """
    try:
        with server_errors.translated(work.store, work.interrupt), worker_pool.open_pool(work) as conns:
            live = preparation.begin(work, conns, expected, online, steps)
            pool = preparation.pool_of(work, conns, online, live)
            columns = source_table.columns(work.conn, live, target_shape(online), computed=False)
            rewrite = TableRewrite(expected=expected, online=online, steps=steps, live=live, columns=columns)
            with _explained(pool, rewrite):
                _fill(pool, rewrite)
                _settle(pool, rewrite)
                locked = _at_its_moment(pool, rewrite)
    except MigratorError as error:
        gone = isinstance(error, TableChanged | NotAsRehearsed | NoSpace) and cleanup.removed(work, expected.schema)
        if not gone and "--abandon" not in error.hint:
            error.hint = "; ".join(filter(None, [error.hint, cleanup.remaining(work, expected.schema)]))
        raise
    cleanup.tidy(work, expected.schema)
    return locked


@contextmanager
def _explained(pool: WorkerPool, rewrite: TableRewrite) -> Iterator[None]:
    """Raise the cause of a failed statement if there is one: a table that was altered, or a value that does not fit."""
    try:
        yield
    except StatementFailed as error:
        with suppress(psycopg.Error), pool.transaction(pool.conns[0], rewrite.live.schema):
            cutover.assert_untouched(pool.conns[0], rewrite.live, rewrite.shape)
        if value_checks.of_values(error.__cause__):
            value_checks.check(replace(pool, failed=threading.Event()), rewrite.live, rewrite.online, begun=True)
        raise


def _fill(pool: WorkerPool, rewrite: TableRewrite) -> None:
    """Copy all rows, then build the indexes."""
    live, started = rewrite.live, time.monotonic()
    pool.enter(live, "backfill")
    rows = backfill.fill(pool, live, rewrite.columns)
    events.logger().info("online.copied", table=live.table, rows=rows, seconds=round(time.monotonic() - started, 1))
    pool.enter(live, "index builds")
    index_builds.build(pool, live, rewrite.shape)


def _settle(pool: WorkerPool, rewrite: TableRewrite) -> None:
    """Replay changes, vacuum and analyse the copy as if it had long been in use, prove it, await old snapshots."""
    pool.enter(rewrite.live, "replay")
    _drain(pool, rewrite)
    _vacuum(pool, rewrite.live)
    pool.enter(rewrite.live, "proof")
    copy_proof.prove(pool, rewrite.live, rewrite.shape)
    _compare(pool, rewrite)
    drain = partial(_drain, pool, rewrite, noting=holding.holds(pool.work.settings.run))
    drain()
    cutover.await_old_snapshots(pool.work, rewrite.live, drain)


def _at_its_moment(pool: WorkerPool, rewrite: TableRewrite) -> float:
    """Cut over as soon as that is wanted; return the seconds that the table was locked."""
    pool.throttle.heeds_pause = not holding.holds(pool.work.settings.run)  # `hold` itself does
    catch_up, compare = partial(_drain, pool, rewrite, noting=True), partial(_compare, pool, rewrite)
    while True:
        holding.hold(pool, rewrite.live, rewrite.shape, catch_up, compare)
        with suppress(CutoverNotRequested):
            return _cut_over(pool, rewrite)


def _compare(pool: WorkerPool, rewrite: TableRewrite) -> None:
    """Compare the tables' catalog properties before the lock, to raise early what the comparison under it would."""
    conn, live, shape = pool.conns[0], rewrite.live, rewrite.shape
    with server_errors.translated(pool.work.store, pool.work.interrupt), pool.transaction(conn, live.schema):
        cutover.assert_alike(conn, cutover.assert_untouched(conn, live, shape), shape, live.ours, ROWS)


def _drain(pool: WorkerPool, rewrite: TableRewrite, *, noting: bool = False) -> None:
    """Replay until few log entries are left. Raises TableChanged if the table was emptied, and logged rows with it."""
    try:
        replay.drain(pool, rewrite.live, rewrite.columns, noting=noting)
    except NotAsRehearsed:
        with pool.transaction(pool.conns[0], rewrite.live.schema):
            cutover.assert_same(pool.conns[0], rewrite.live, rewrite.shape)
        raise


def _vacuum(pool: WorkerPool, live: SourceTable) -> None:
    conn, limits = pool.conns[0], session_settings.Limits(table_lock=0, statement=0)
    with transactions.session(conn, limits, name=pool.work.lock.worker):
        conn.execute(
            "SET max_parallel_maintenance_workers = 0"
        )  # their shared memory may not fit a container's /dev/shm
        conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(live.ours, ROWS)))


def _cut_over(pool: WorkerPool, rewrite: TableRewrite) -> float:
    locked: list[float] = []
    live, online = rewrite.live, rewrite.online
    pool.enter(live, "cutover")

    def drain() -> None:
        with server_errors.translated(pool.work.store, pool.work.interrupt):
            _drain(pool, rewrite)

    def attempt(work: RunContext) -> None:
        drain()
        holding.assert_wanted(pool, live)
        with cutover_turns.taken(work, live.table) as waited:
            if waited:  # changes were logged in the meantime
                drain()
            locked.append(cutover.cut_over(work, rewrite))

    guarded.retried(pool.work, str(online.versions[-1]), [online.table], attempt)
    events.logger().info("online.cut_over", table=online.table, locked_seconds=round(locked[-1], 3))
    return locked[-1]

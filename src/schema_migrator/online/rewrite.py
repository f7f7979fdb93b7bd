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
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator import events
from schema_migrator.catalog import leftovers
from schema_migrator.catalog.leftovers import ROWS
from schema_migrator.config import sizes
from schema_migrator.errors import (
    MigratorError,
    NoSpace,
    NotAsRehearsed,
    RewriteBlocked,
    StatementFailed,
    TableChanged,
    TableLockTimeout,
)
from schema_migrator.online import (
    backfill,
    cleanup,
    copy_proof,
    cutover,
    damage,
    function_checks,
    index_builds,
    prechecks,
    replay,
    shadow,
    value_checks,
    worker_pool,
)
from schema_migrator.online.throttle import Throttle
from schema_migrator.online.worker_pool import WorkerPool
from schema_migrator.postgres import server_errors, session_settings, transactions
from schema_migrator.runs import guarded

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.online.cutover import OldSnapshots
    from schema_migrator.online.shadow import SourceTable
    from schema_migrator.planning.plan import Online, Plan, PlannedStep
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext

_COLUMNS = "SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
_ABANDON = "schema-migrator migrate --abandon removes it with the copy"


def run(work: RunContext, plan: Plan, online: Online, steps: Sequence[PlannedStep]) -> float:
    """Rewrite the table and record the steps; return the seconds that its lock was held.

    What the next run can carry on with is left for it, and the error says so; after TableChanged, NotAsRehearsed and
    NoSpace not a trace is left. Raises MigratorError.
    """
    try:
        with server_errors.translated(work.store, work.interrupt), worker_pool.open_pool(work) as conns:
            live = _begin(work, conns, plan, online, steps)
            those = _pool(work, conns, online, live)
            columns = shadow.columns(work.conn, live, _shape(online), computed=False)
            with _explained(those, live, online):
                old = _fill(those, live, online, columns)
                _settle(work, those, live, online, columns, old)
                locked = _cut_over(those, plan, online, steps, live, columns)
    except MigratorError as error:
        gone = isinstance(error, TableChanged | NotAsRehearsed | NoSpace) and _removed(work, plan.schema)
        if not gone and "--abandon" not in error.hint:
            error.hint = "; ".join(filter(None, [error.hint, _remaining(work, plan.schema)]))
        raise
    tidy(work, plan.schema)
    return locked


def _removed(work: RunContext, schema: str) -> bool:
    """Remove all traces after a failure; return whether that could be done. What failed first is what is raised."""
    try:
        abandon(work, schema)
    except (MigratorError, psycopg.Error) as error:
        events.logger().warning("online.left", reason=str(error))
        return False
    return True


def _remaining(work: RunContext, schema: str) -> str:
    """Return in words what of an unfinished rewrite is on the table, empty where there is nothing."""
    try:
        left = [one for one in _left(work, schema) if one.unfinished]
    except (MigratorError, psycopg.Error):  # a broken connection tells nothing more
        return f"a trigger that logs every change may remain on the table: {_ABANDON}"
    return "; ".join(
        f'a trigger on "{one.table}" goes on logging changes ({sizes.text(one.log_bytes)} so far): {_ABANDON}'
        for one in left
    )


def _left(work: RunContext, schema: str) -> tuple[Leftover, ...]:
    with transactions.transaction(work.conn, schema, session_settings.LOOK, name=work.lock.worker):
        return find(work, schema)


def find(work: RunContext, schema: str) -> tuple[Leftover, ...]:
    """Return what online rewrites have left for the store's tables in a schema; in a transaction."""
    return leftovers.find(work.conn, schema, work.release.source(work.store.store).tables).leftovers


def abandon(work: RunContext, schema: str, *, kept: bool = False) -> tuple[Leftover, ...]:
    """Remove what is unfinished, and what a finished rewrite left; with `kept` also what was to be kept."""
    return _remove(work, [one for one in _left(work, schema) if kept or not one.kept])


def clear(work: RunContext, plan: Plan) -> None:
    """Remove, before a plan runs, what earlier rewrites left and this one does not carry on with."""
    going_on = plan.online.table if plan.online and plan.online.shape else None
    _remove(
        work, [one for one in plan.leftovers if not one.kept and (one.finished or one.lost or one.table != going_on)]
    )


def tidy(work: RunContext, schema: str) -> tuple[Leftover, ...]:
    """Remove what a finished rewrite has no more use for. What is in use just now is left for the next run."""
    done = [one for one in _left(work, schema) if one.finished and not one.kept]
    try:
        return _remove(work, done)
    except TableLockTimeout as error:
        events.logger().warning("online.left", schemas=[one.name for one in done], reason=error.message)
        return ()


def _remove(work: RunContext, those: Sequence[Leftover]) -> tuple[Leftover, ...]:
    for one in those:
        guarded.retried(work, one.target, [one.table], partial(_remove_one, one=one))
        events.logger().info("online.removed", schema=one.name, table=one.table)
    return tuple(those)


def _remove_one(work: RunContext, one: Leftover) -> None:
    with (
        server_errors.translated(work.store, work.interrupt),
        transactions.transaction(work.conn, one.schema, work.limits, name=work.lock.worker),
    ):
        cleanup.remove(work.conn, one)
        work.lock.assert_held(work.lock.ask(work.conn))


def _pool(work: RunContext, conns: tuple[Connection, ...], online: Online, live: SourceTable) -> WorkerPool:
    return WorkerPool(work=work, conns=conns, throttle=Throttle(work=work, online=online, live=live))


def _begin(
    work: RunContext, conns: tuple[Connection, ...], plan: Plan, online: Online, steps: Sequence[PlannedStep]
) -> SourceTable:
    """Carry on with what an earlier run has begun, or begin."""
    with transactions.transaction(work.conn, plan.schema, work.limits, name=work.lock.worker):
        damage.assert_nothing_hidden(work.conn)
        live = shadow.look(work.conn, plan.schema, _shape(online))
        mine = [one for one in find(work, plan.schema) if not one.finished]
        whole = live is not None and any(shadow.continues(work.conn, live, one) for one in mine)
    if live and whole:
        prechecks.assert_seen(work, online)
        return live
    _remove(work, mine)
    if live:
        _refuse_names(work, live)
    prechecks.check(work, online)
    if live:
        function_checks.check(work, plan, online, live)
        value_checks.check(_pool(work, conns, online, live), live, online)
    begun: list[SourceTable] = []
    attempt = partial(_make, plan=plan, online=online, steps=steps, begun=begun)
    guarded.retried(work, str(online.versions[-1]), [online.table], attempt)
    events.logger().info("online.begun", table=online.table, bytes=online.size, target=str(online.versions[-1]))
    return begun[-1]


def _refuse_names(work: RunContext, live: SourceTable) -> None:
    """Raise RewriteBlocked where a name has a percent sign, which in our statements stands for a value, or is ours."""
    columns = [name for (name,) in transactions.ask(work.conn, _COLUMNS, [live.oid])]
    strange = [name for name in (live.schema, live.table, *columns) if "%" in name]
    if strange:
        raise RewriteBlocked(
            f'"{live.table}" cannot be rewritten online: the name "{strange[0]}" has a percent sign',
            hint="rename it, or take --rewrite in-place",
        )
    ours = [name for name in columns if name.startswith("schema_migrator_")]
    if ours:
        raise RewriteBlocked(
            f'"{live.table}" cannot be rewritten online: its column "{ours[0]}" has a name that our statements use',
            hint="rename it, or take --rewrite in-place",
        )


def _make(work: RunContext, plan: Plan, online: Online, steps: Sequence[PlannedStep], begun: list[SourceTable]) -> None:
    """Make the shadow, and last the trigger: it locks the table against writers until the commit, a moment later."""
    shape, conn = _shape(online), work.conn
    with (
        server_errors.translated(work.store, work.interrupt),
        guarded.transaction(work, plan, steps[0].previous, steps[0]),
    ):
        live = shadow.look(conn, plan.schema, shape)
        if live is None:
            raise TableChanged(f'the table "{online.table}" is gone', hint="see schema-migrator status")
        shadow.build(conn, live, online, shape)
        index_builds.rehearse(conn, work.store, live, shape)
        shadow.try_log(conn, live)
        shadow.watch(conn, live)
        cutover.assert_alike(conn, cutover.assert_untouched(conn, live, shape), shape, live.ours, ROWS)
        wrong = guarded.deviations(conn, plan.schema, shape.touched, shape.start)
        if wrong:
            raise NotAsRehearsed(
                f'the table "{online.table}" is not as the plan says and was left alone: {wrong}',
                hint="if another tool is at work let that end, then run this again; else see schema-migrator verify",
            )
    begun.append(live)


@contextmanager
def _explained(those: WorkerPool, live: SourceTable, online: Online) -> Iterator[None]:
    """Look for what is behind a refused statement: a table altered in the meantime, or a value that does not fit."""
    try:
        yield
    except StatementFailed as error:
        with suppress(psycopg.Error), those.transaction(those.conns[0], live.schema):
            cutover.assert_untouched(those.conns[0], live, _shape(online))
        if value_checks.of_values(error.__cause__):
            value_checks.check(replace(those, failed=threading.Event()), live, online, begun=True)
        raise


def _fill(those: WorkerPool, live: SourceTable, online: Online, columns: Sequence[str]) -> OldSnapshots:
    """Copy all rows, then build the indexes; return the transactions to which the rows may be too new."""
    started = time.monotonic()
    rows = backfill.fill(those, live, columns)
    old = cutover.old_snapshots(those.work.conn)
    events.logger().info("online.copied", table=live.table, rows=rows, seconds=round(time.monotonic() - started, 1))
    index_builds.build(those, live, _shape(online))
    return old


def _settle(
    work: RunContext, those: WorkerPool, live: SourceTable, online: Online, columns: Sequence[str], old: OldSnapshots
) -> None:
    """Catch up with the writers, and let the new table be as fit as a table is that has been in use for long."""
    _drain(those, live, online, columns)
    _vacuum(those, live)
    copy_proof.prove(those, live, _shape(online))
    _compare(those, live, _shape(online))
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
            cutover.assert_same(those.conns[0], live, _shape(online))
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
    events.logger().info("online.swapped", table=online.table, locked_seconds=round(locked[-1], 3))
    return locked[-1]


def _shape(online: Online) -> TargetShape:
    assert online.shape is not None  # noqa: S101 - a plan has no online steps without
    return online.shape

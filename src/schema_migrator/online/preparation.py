"""The start of an online rewrite: resume an earlier run's, or check everything and create shadow table and trigger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.catalog.leftovers import ROWS
from schema_migrator.errors import NotAsRehearsed, RewriteBlocked, TableChanged
from schema_migrator.online import (
    change_log,
    cleanup,
    control,
    cutover,
    damage,
    function_checks,
    index_builds,
    prechecks,
    shadow_table,
    source_table,
    value_checks,
)
from schema_migrator.online.throttle import Throttle
from schema_migrator.online.tuning import Tuner
from schema_migrator.online.worker_pool import WorkerPool
from schema_migrator.postgres import server_errors, transactions
from schema_migrator.runs import guarded

if TYPE_CHECKING:
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.planning.plan import Online, PlannedStep
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext
    from schema_migrator.runs.expected import Expected

_COLUMNS = "SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"


def pool_of(work: RunContext, conns: tuple[Connection, ...], online: Online, live: SourceTable) -> WorkerPool:
    """Return the pool of connections with its throttle; --jobs fixes how many work, otherwise that is tuned."""
    tuner = Tuner(most=len(conns), fixed=work.settings.run.jobs is not None)
    throttle = Throttle(work=work, online=online, live=live, tuner=tuner)
    return WorkerPool(work=work, conns=conns, throttle=throttle)


def begin(
    work: RunContext, conns: tuple[Connection, ...], expected: Expected, online: Online, steps: Sequence[PlannedStep]
) -> SourceTable:
    """Resume the rewrite that an earlier run started, or start a new one; return the live table.

    A rewrite that cannot be resumed is removed first.
    """
    with transactions.transaction(work.conn, expected.schema, work.limits, name=work.lock.worker):
        damage.assert_nothing_hidden(work.conn)
        live = source_table.look(work.conn, expected.schema, target_shape(online))
        unfinished = [leftover for leftover in cleanup.find(work, expected.schema) if not leftover.finished]
        resumes = live is not None and any(change_log.continues(work.conn, live, leftover) for leftover in unfinished)
    if live and resumes:
        prechecks.assert_seen(work, online)
        _resume(work, live)
        return live
    cleanup.remove_all(work, unfinished)
    if live:
        _refuse_names(work, live)
    prechecks.check(work, online)
    if live:
        function_checks.check(work, online, live)
        value_checks.check(pool_of(work, conns, online, live), live, online)
    begun: list[SourceTable] = []
    attempt = partial(_make, expected=replace(expected, reached=steps[0].previous), online=online, begun=begun)
    guarded.retried(work, str(online.versions[-1]), [online.table], attempt)
    events.logger().info("online.started", table=online.table, bytes=online.size, target=str(online.versions[-1]))
    return begun[-1]


def _resume(work: RunContext, live: SourceTable) -> None:
    """Take over the rewrite of an earlier run. Raises PreflightFailed if that could run code of others as our role."""
    with transactions.transaction(work.conn, live.schema, work.limits, name=work.lock.worker):
        control.assert_harmless(work.conn, live.ours)
        change_log.prepare_hold(work.conn, live)
        control.take(work.conn, live.ours, work.lock.pid)
        work.lock.assert_held(work.lock.ask(work.conn))


def _refuse_names(work: RunContext, live: SourceTable) -> None:
    """Raise RewriteBlocked if a name has a percent sign, a placeholder in our statements, or is one of our names."""
    columns = [name for (name,) in transactions.ask(work.conn, _COLUMNS, [live.oid])]
    with_percent = [name for name in (live.schema, live.table, *columns) if "%" in name]
    if with_percent:
        raise RewriteBlocked(
            f'"{live.table}" cannot be rewritten online: the name "{with_percent[0]}" has a percent sign',
            hint="rename it, or use --rewrite in-place",
        )
    ours = [name for name in columns if name.startswith("schema_migrator_")]
    if ours:
        raise RewriteBlocked(
            f'"{live.table}" cannot be rewritten online: its column "{ours[0]}" has a name that our statements use',
            hint="rename it, or use --rewrite in-place",
        )


def _make(work: RunContext, expected: Expected, online: Online, begun: list[SourceTable]) -> None:
    """Create the shadow table and, last, the trigger, which blocks writers until the commit, a moment later."""
    shape, conn = target_shape(online), work.conn
    with (
        server_errors.translated(work.store, work.interrupt),
        guarded.transaction(work, expected),
    ):
        live = source_table.look(conn, expected.schema, shape)
        if live is None:
            raise TableChanged(f'the table "{online.table}" is gone', hint="see schema-migrator status")
        shadow_table.build(conn, live, online, shape)
        control.take(conn, live.ours, work.lock.pid)
        index_builds.rehearse(conn, work.store, live, shape)
        change_log.try_log(conn, live)
        change_log.watch(conn, live)
        cutover.assert_alike(conn, cutover.assert_untouched(conn, live, shape), shape, live.ours, ROWS)
        wrong = guarded.deviations(conn, expected.schema, shape.touched, shape.start)
        if wrong:
            raise NotAsRehearsed(
                f'the table "{online.table}" differs from the plan and was not touched: {wrong}',
                hint="if another tool is at work, wait for it to finish and run this again; otherwise see"
                " schema-migrator verify",
            )
    begun.append(live)


def target_shape(online: Online) -> TargetShape:
    """Return the shape that the table gets."""
    assert online.shape is not None  # noqa: S101 - a plan with online steps has one
    return online.shape

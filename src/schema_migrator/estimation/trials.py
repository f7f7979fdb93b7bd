"""Trials of a plan's steps on copies of some rows, in a scratch schema and a transaction that rolls back.

Live tables are only read, under ACCESS SHARE locks that end with the transaction, after some seconds. The copies are
created in `trial_tables`; estimates follow from the trials in `extrapolation`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import psycopg

from schema_migrator.diagnosis.rehearsal import assert_harmless, scratch_schema
from schema_migrator.errors import MigratorError
from schema_migrator.estimation import extrapolation
from schema_migrator.estimation.model import BlockingTransaction, Cost, Forecast, TableSize, Trial
from schema_migrator.estimation.trial_tables import TrialTables, copy_rows, count_rows, limit_time, prepare
from schema_migrator.postgres import activity, conninfo, session_settings, transactions

if TYPE_CHECKING:
    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.planning.plan import Plan, PlanInputs, PlannedStep
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Source

BOUND_SECONDS = 15.0
"""A measurement that takes longer is abandoned."""

_GOAL_SECONDS = 8.0  # all trials together
_FEW_ROWS, _TIMES = 20, 10
_LEAST_TAKEN = 3  # times: the zero for no rows, and the times of two trials
_TELLING = 1.5  # a trial with more rows that takes less than this factor longer than the one before shows only noise
_MOST_ROWS = 20_000
_MOST_BYTES = 32 * 1024 * 1024
_LIMITS = session_settings.Limits(table_lock=1, statement=BOUND_SECONDS)
_SIZES = """
SELECT c.relname::text, pg_catalog.pg_relation_size(c.oid), pg_catalog.pg_indexes_size(c.oid),
  coalesce(pg_catalog.pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0),
  nullif(greatest(c.reltuples, -1), -1)::bigint
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = ANY (%s) AND c.relkind = 'r' ORDER BY 1
"""
_PARTITIONED = """
SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = ANY (%s) AND c.relkind = 'p'
"""
_FILES = """
WITH ns AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s)
SELECT f.relfilenode, pg_catalog.pg_relation_size(f.oid) FROM pg_catalog.pg_class f
WHERE f.relnamespace = (SELECT oid FROM ns) AND f.relkind IN ('r', 'i')
  OR f.oid IN (SELECT t.reltoastrelid FROM pg_catalog.pg_class t WHERE t.relnamespace = (SELECT oid FROM ns))
"""
_NOW = "SELECT clock_timestamp()"


def forecast(
    conn: Connection,
    source: Source,
    plan: Plan,
    inputs: PlanInputs | None,
    interrupt: Interrupt,
    *,
    unmeasured: str = "",
) -> Forecast:
    """Return what the plan's steps will cost and which transactions block them.

    With a reason why it is `unmeasured`, nothing is tried. Measuring takes some seconds, and is done only if a step
    works on a large table.
    `conn` must be in autocommit. If measuring fails, the forecast has the reason, and nothing is raised but Stopped.
    """
    if plan.together or not plan.steps:
        return Forecast()
    tables = sorted({lock.table for step in plan.steps for lock in step.locks})
    with transactions.transaction(conn, plan.schema, _LIMITS, name=conninfo.APPLICATION):
        sizes = tuple(
            TableSize(table=name, heap=heap, indexes=indexes, toast=toast, rows=rows)
            for name, heap, indexes, toast, rows in conn.execute(_SIZES, [plan.schema, tables]).fetchall()
        )
        holders = tuple(
            BlockingTransaction(table=table, mode=mode, pid=pid, who=who, seconds=seconds)
            for table, mode, pid, who, seconds in conn.execute(activity.TABLE_LOCKS, [plan.schema, tables]).fetchall()
        )
        partitioned = frozenset(name for (name,) in conn.execute(_PARTITIONED, [plan.schema, tables]).fetchall())
    bare = Forecast(sizes=sizes, holders=holders, partitioned=partitioned)
    if inputs is None:
        return extrapolation.without_trials(plan, bare, "without a rehearsal it is unknown which tables it works on")
    wanted = extrapolation.tables_to_copy(plan, sizes)
    if not wanted:
        return extrapolation.without_trials(plan, bare, "")
    if unmeasured:
        return extrapolation.without_trials(plan, bare, unmeasured)
    started = time.monotonic()
    try:
        large = [size for size in sizes if size.table in wanted]
        rows, trials, left_out = _measure(conn, source, plan, inputs.live, large, interrupt)
    except (psycopg.Error, MigratorError) as error:
        interrupt.check()
        return extrapolation.without_trials(plan, bare, _reason(error))
    spent = time.monotonic() - started
    return extrapolation.with_trials(plan, bare, trials, rows, spent=spent, left_out=left_out)


def _reason(error: psycopg.Error | MigratorError) -> str:
    if isinstance(error, MigratorError):
        return error.message
    if error.sqlstate == "57014":
        return f"the measurement took longer than {BOUND_SECONDS:g} s and was abandoned"
    return error.diag.message_primary or str(error)


def _measure(
    conn: Connection, source: Source, plan: Plan, live: Snapshot, sizes: list[TableSize], interrupt: Interrupt
) -> tuple[dict[str, int], tuple[Trial, ...], tuple[str, ...]]:
    """Return the tables' row counts, the trials, and the indexes that could not be built in them."""
    with scratch_schema(conn, piped=False) as sent:
        rows = {size.table: count_rows(conn, plan.schema, size) for size in sizes}
        most = {
            s.table: min(rows[s.table], _MOST_ROWS, _MOST_BYTES * rows[s.table] // (s.heap + s.toast)) for s in sizes
        }
        bench = TrialTables(
            conn=conn,
            sent=sent,
            plan=plan,
            live=live,
            rows=rows,
            most=most,
            interrupt=interrupt,
            deadline=time.monotonic() + BOUND_SECONDS,
        )
        prepare(bench, source)
        trials = tuple(_trials(bench))
        assert_harmless(sent)
    _assert_rows(rows, trials[-1])
    return rows, trials, tuple(bench.left_out)


def _assert_rows(rows: Mapping[str, int], last: Trial) -> None:
    """Raise MigratorError if the largest trial copied no row of a table that has some: that says nothing about it."""
    empty = sorted(table for table, count in last.rows.items() if rows[table] and not count)
    if empty:
        raise MigratorError(f'the sample of "{empty[0]}" has no row, because most of its blocks are empty')


def _trials(bench: TrialTables) -> Iterator[Trial]:
    """Yield trials with more and more rows while time allows: estimates follow the line through the last two.

    Raises MigratorError if more rows hardly take longer, because the server's own time or load hides the difference.
    """
    count, taken, left, whole = _FEW_ROWS, [0.0], _GOAL_SECONDS, max(bench.most.values())
    before = 0
    while True:
        began = time.monotonic()
        try:
            trial = _try(bench, {table: min(most, count) for table, most in bench.most.items()})
        except psycopg.errors.QueryCanceled:  # this trial took longer than expected: use the earlier ones
            bench.interrupt.check()
            if len(taken) < _LEAST_TAKEN:
                raise
            bench.sent.send("ROLLBACK TO SAVEPOINT trial")
            count = before
            break
        yield trial
        taken.append(time.monotonic() - began)
        left -= taken[-1]
        if count >= whole:
            break
        each = max(taken[-1] - taken[-2], 0.0) / (count - before)
        more = count * _TIMES if before == 0 or each == 0 else min(count * _TIMES, count + (left - taken[-1]) / each)
        if before > 0 and (left < taken[-1] or more < 2 * count):
            break
        before, count = count, min(round(more), whole)
    if count < max(bench.rows.values()) and taken[-1] < _TELLING * taken[-2]:
        raise MigratorError(f"the server is too slow or too busy now to measure the difference that {count} rows make")


def _try(bench: TrialTables, rows: Mapping[str, int]) -> Trial:
    """Return a trial: copy rows, run all pending statements on them, each timed by the server, then roll back."""
    bench.sent.send("SAVEPOINT trial")
    copied = {table: copy_rows(bench, table, count) for table, count in rows.items()}
    size = sum(size for _, size in bench.conn.execute(_FILES, [bench.sent.schema]).fetchall())
    costs = {step.step.version: tuple(_run(bench, step)) for step in bench.plan.steps}
    bench.sent.send("ROLLBACK TO SAVEPOINT trial")
    made = sum(cost.made for each in costs.values() for cost in each)
    return Trial(rows=copied, costs=costs, written=size + made)


def _run(bench: TrialTables, step: PlannedStep) -> Iterator[Cost]:
    before = dict(bench.conn.execute(_FILES, [bench.sent.schema]).fetchall())
    for statement in step.statements:
        with bench.conn.pipeline():
            limit_time(bench)
            began = bench.sent.send(_NOW)
            bench.sent.run([statement])
            ended, files = bench.sent.send(_NOW), bench.sent.send(_FILES, [bench.sent.schema])
        after: dict[int, int] = dict(files.fetchall())
        (start,), (end,) = began.fetchall()[0], ended.fetchall()[0]
        made = sum(after[file] for file in after.keys() - before.keys())
        yield Cost(seconds=(end - start).total_seconds(), made=made)
        before = after

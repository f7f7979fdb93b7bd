"""Trials of a plan's steps on copies of some rows, in a scratch schema and a transaction that rolls back.

Live tables are only read, under ACCESS SHARE, which ends with the transaction after some seconds.
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
"""When a measuring that has not ended is given up."""

_GOAL_SECONDS = 8.0  # what all trials may take together
_FEW_ROWS, _TIMES = 20, 10
_LEAST_TAKEN = 3  # times: that without rows, and those of two trials
_TELLING = 1.5  # a trial of more rows that does not take so much longer than the one before tells of noise alone
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


def forecast(conn: Connection, source: Source, plan: Plan, inputs: PlanInputs | None, interrupt: Interrupt) -> Forecast:
    """Return what the plan's steps will meet and cost; some seconds, and only where a table's size makes it matter.

    `conn` must be in autocommit. What keeps it from measuring is said in the outlook, not raised. Raises Stopped.
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
    found = Forecast(sizes=sizes, holders=holders, partitioned=partitioned)
    if inputs is None:
        return extrapolation.without_trials(plan, found, "without a rehearsal it is unknown which tables it works on")
    wanted = extrapolation.tables_to_copy(plan, sizes)
    if not wanted:
        return extrapolation.without_trials(plan, found, "")
    started = time.monotonic()
    try:
        large = [size for size in sizes if size.table in wanted]
        rows, trials, left_out = _measure(conn, source, plan, inputs.live, large, interrupt)
    except (psycopg.Error, MigratorError) as error:
        interrupt.check()
        return extrapolation.without_trials(plan, found, _reason(error))
    spent = time.monotonic() - started
    return extrapolation.with_trials(plan, found, trials, rows, spent=spent, left_out=left_out)


def _reason(error: psycopg.Error | MigratorError) -> str:
    if isinstance(error, MigratorError):
        return error.message
    if error.sqlstate == "57014":
        return f"the measurement took longer than {BOUND_SECONDS:g} s and was abandoned"
    return error.diag.message_primary or str(error)


def _measure(
    conn: Connection, source: Source, plan: Plan, live: Snapshot, sizes: list[TableSize], interrupt: Interrupt
) -> tuple[dict[str, int], tuple[Trial, ...], tuple[str, ...]]:
    """Return the tables' rows, the trials, and the indexes that could not be built in them."""
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
    return rows, trials, tuple(bench.left_out)


def _trials(bench: TrialTables) -> Iterator[Trial]:
    """Make trials of ever more rows while time allows: what counts is the line through the last two.

    Raises MigratorError where they take so long without rows that those make no difference.
    """
    count, taken, left, whole = _FEW_ROWS, [0.0], _GOAL_SECONDS, max(bench.most.values())
    before = 0
    while True:
        began = time.monotonic()
        try:
            trial = _try(bench, {table: min(most, count) for table, most in bench.most.items()})
        except psycopg.errors.QueryCanceled:  # it took longer than was to be expected: those before count
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
    """Copy rows and run all pending statements on them, each timed by the server; then roll that back."""
    bench.sent.send("SAVEPOINT trial")
    copied = {table: copy_rows(bench, table, count) for table, count in rows.items()}
    costs = {step.step.version: tuple(_run(bench, step)) for step in bench.plan.steps}
    bench.sent.send("ROLLBACK TO SAVEPOINT trial")
    return Trial(rows=copied, costs=costs)


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

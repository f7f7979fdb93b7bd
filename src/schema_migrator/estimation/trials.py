"""Trials of a plan's steps on copies of some rows, in a scratch schema and a transaction that rolls back.

Live tables are only read, under ACCESS SHARE, which ends with the transaction after some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator.catalog import function_calls, snapshot
from schema_migrator.diagnosis.rehearsal import assert_harmless, scratch_schema
from schema_migrator.errors import MigratorError
from schema_migrator.estimation import extrapolation
from schema_migrator.estimation.model import BlockingTransaction, Cost, Forecast, TableSize, Trial
from schema_migrator.postgres import conninfo, session_settings, transactions
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from schema_migrator.catalog.snapshot import Key, Snapshot
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.planning.plan import Plan, PlanInputs, PlannedStep
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.postgres.transactions import Batch
    from schema_migrator.releases.source import Source

BOUND_SECONDS = 15.0
"""When a measuring that has not ended is given up."""

_GOAL_SECONDS = 8.0  # what all trials may take together
_FEW_ROWS, _TIMES = 20, 10
_LEAST_TAKEN = 3  # times: that without rows, and those of two trials
_TELLING = 1.5  # a trial of more rows that does not take so much longer than the one before tells of noise alone
_MOST_ROWS = 20_000
_MOST_BYTES = 32 * 1024 * 1024
_BLOCKS = 300  # looked at to learn how many rows a block holds
_BLOCK = 8192
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
_HOLDERS = """
SELECT c.relname::text, l.mode, l.pid, coalesce(p.gid, a.application_name, ''),
  extract(epoch FROM clock_timestamp() - coalesce(p.prepared, a.xact_start))::float
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
  AND x.locktype = 'transactionid'
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
WHERE l.granted AND l.locktype = 'relation' AND n.nspname = %s AND c.relname = ANY (%s)
  AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY 5 DESC NULLS FIRST, 1, 2
"""
_FILES = """
WITH ns AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s)
SELECT f.relfilenode, pg_catalog.pg_relation_size(f.oid) FROM pg_catalog.pg_class f
WHERE f.relnamespace = (SELECT oid FROM ns) AND f.relkind IN ('r', 'i')
  OR f.oid IN (SELECT t.reltoastrelid FROM pg_catalog.pg_class t WHERE t.relnamespace = (SELECT oid FROM ns))
"""
_COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attgenerated = ''
FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_SET = "SELECT set_config(%s, %s, true)"
_NOW = "SELECT clock_timestamp()"


@dataclass(slots=True, kw_only=True)
class _TrialTable:
    """Where trials are made: the scratch schema behind `sent`, beside the live one. `rows`: of the live tables."""

    conn: Connection
    sent: Batch
    plan: Plan
    live: Snapshot
    rows: Mapping[str, int]
    most: Mapping[str, int]
    interrupt: Interrupt
    deadline: float
    left_out: list[str] = field(default_factory=list)


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
            for table, mode, pid, who, seconds in conn.execute(_HOLDERS, [plan.schema, tables]).fetchall()
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
        rows = {size.table: _count_rows(conn, plan.schema, size) for size in sizes}
        most = {
            s.table: min(rows[s.table], _MOST_ROWS, _MOST_BYTES * rows[s.table] // (s.heap + s.toast)) for s in sizes
        }
        bench = _TrialTable(
            conn=conn,
            sent=sent,
            plan=plan,
            live=live,
            rows=rows,
            most=most,
            interrupt=interrupt,
            deadline=time.monotonic() + BOUND_SECONDS,
        )
        _prepare(bench, source)
        trials = tuple(_trials(bench))
        assert_harmless(sent)
    return rows, trials, tuple(bench.left_out)


def _count_rows(conn: Connection, schema: str, size: TableSize) -> int:
    """Return about how many rows a table has, from some of its blocks: statistics may be old or none."""
    share = min(1.0, _BLOCKS * _BLOCK / size.heap) if size.heap else 1.0
    query = sql.SQL("SELECT count(*) FROM {} TABLESAMPLE SYSTEM ({})")
    row = conn.execute(query.format(sql.Identifier(schema, size.table), sql.Literal(100 * share))).fetchone()
    return round((row[0] if row else 0) / share)


def _prepare(bench: _TrialTable, source: Source) -> None:
    """Make the tables as they are now: by the steps that were done, then with the indexes and columns that differ."""
    reached = bench.plan.version or UNVERSIONED
    first = bench.plan.steps[0]
    with bench.conn.pipeline():
        for step in source.steps:
            if step.version <= reached:
                bench.sent.run(step.statements)
        bench.sent.run(one for one in first.step.statements if one not in first.statements)
    for table in bench.rows:
        _add_columns(bench, table)
    live, made = bench.live.validated().objects, snapshot.take(bench.conn, bench.sent.schema).objects
    differing = [key for key in sorted(live.keys() ^ made.keys()) if key.kind == "index" and key.parent in bench.rows]
    unsafe = _unsafe(bench, differing, function_calls.created(source))
    for key in differing:
        if key in unsafe:
            bench.left_out.append(key.name)
        else:
            _adapt_index(bench, key.name, live.get(key))


def _unsafe(bench: _TrialTable, indexes: Sequence[Key], vendors: Collection[str]) -> set[Key]:
    """Return the indexes for which another role's function would run as a superuser."""
    found = set()
    for table in {key.parent for key in indexes}:
        place = sql.Identifier(bench.plan.schema, table).as_string(bench.conn)
        ((oid,),) = bench.conn.execute("SELECT to_regclass(%s)::oid", [place]).fetchall()
        names = {f'index "{key.name}"': key for key in indexes if key.parent == table}
        own = tuple(key.name for key in names.values())
        parts = function_calls.TableCalls(table=oid, schema=bench.plan.schema, indexes=own)
        called = function_calls.look(bench.conn, parts, vendors)
        found |= {names[call.what] for call in called if call.endangered and call.what in names}
    return found


def _adapt_index(bench: _TrialTable, name: str, definition: str | None) -> None:
    """Build an index of the user's own, whose functions are found in the live schema, or drop one that is not there."""
    drop = sql.SQL("DROP INDEX {}").format(sql.Identifier(bench.sent.schema, name)).as_string(bench.conn)
    wider = f"{bench.sent.path}, {sql.Identifier(bench.plan.schema).as_string(bench.conn)}"
    try:
        with bench.conn.transaction(), transactions.store_path(bench.conn, wider):
            bench.conn.execute((definition or drop).encode())
    except psycopg.Error:
        bench.left_out.append(name)


def _add_columns(bench: _TrialTable, table: str) -> None:
    have = {name for name, _, _ in _columns(bench, bench.sent.schema, table)}
    for name, kind, _ in _columns(bench, bench.plan.schema, table):
        if name not in have:
            place = sql.Identifier(bench.sent.schema, table)
            add = sql.SQL("ALTER TABLE {} ADD COLUMN {} ").format(place, sql.Identifier(name))
            bench.conn.execute(add.as_string(bench.conn).encode() + kind.encode())


def _columns(bench: _TrialTable, schema: str, table: str) -> list[tuple[str, str, bool]]:
    """Return the names and types of a table's columns, and whether each holds values of its own."""
    name = sql.Identifier(schema, table).as_string(bench.conn)
    return bench.conn.execute(_COLUMNS, [name]).fetchall()


def _trials(bench: _TrialTable) -> Iterator[Trial]:
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


def _try(bench: _TrialTable, rows: Mapping[str, int]) -> Trial:
    """Copy rows and run all pending statements on them, each timed by the server; then roll that back."""
    bench.sent.send("SAVEPOINT trial")
    copied = {table: _copy(bench, table, count) for table, count in rows.items()}
    costs = {step.step.version: tuple(_run(bench, step)) for step in bench.plan.steps}
    bench.sent.send("ROLLBACK TO SAVEPOINT trial")
    return Trial(rows=copied, costs=costs)


def _copy(bench: _TrialTable, table: str, count: int) -> int:
    """Copy about so many rows, from blocks all over the table; return how many they are."""
    plain = {name for name, _, own in _columns(bench, bench.sent.schema, table) if own}
    names = [sql.Identifier(name) for name, _, _ in _columns(bench, bench.plan.schema, table) if name in plain]
    columns = sql.SQL(", ").join(names)
    share = min(1.0, 1.2 * count / max(bench.rows[table], 1) + 0.0005)
    query = sql.SQL(
        "WITH copied AS (INSERT INTO {} ({}) SELECT {} FROM {} TABLESAMPLE SYSTEM ({}) LIMIT {} RETURNING 1)"
        " SELECT count(*) FROM copied"
    ).format(
        sql.Identifier(bench.sent.schema, table),
        columns,
        columns,
        sql.Identifier(bench.plan.schema, table),
        sql.Literal(100 * share),
        sql.Literal(count),
    )
    _limit(bench)
    (copied,) = bench.conn.execute(query).fetchone() or (0,)
    return int(copied)


def _run(bench: _TrialTable, step: PlannedStep) -> Iterator[Cost]:
    before = dict(bench.conn.execute(_FILES, [bench.sent.schema]).fetchall())
    for statement in step.statements:
        with bench.conn.pipeline():
            _limit(bench)
            began = bench.sent.send(_NOW)
            bench.sent.run([statement])
            ended, files = bench.sent.send(_NOW), bench.sent.send(_FILES, [bench.sent.schema])
        after: dict[int, int] = dict(files.fetchall())
        (start,), (end,) = began.fetchall()[0], ended.fetchall()[0]
        made = sum(after[file] for file in after.keys() - before.keys())
        yield Cost(seconds=(end - start).total_seconds(), made=made)
        before = after


def _limit(bench: _TrialTable) -> None:
    left = max(bench.deadline - time.monotonic(), 0.001)
    bench.sent.send(_SET, ["statement_timeout", f"{round(left * 1000)}ms"])

"""The tables that trials run on: copies of the live tables in a scratch schema. The trials are in `trials`."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator.catalog import function_calls, snapshot
from schema_migrator.postgres import transactions
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from schema_migrator.catalog.snapshot import Key, Snapshot
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.estimation.model import TableSize
    from schema_migrator.planning.plan import Plan
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.postgres.transactions import Batch
    from schema_migrator.releases.source import Source

_BLOCKS = 300  # sampled to estimate how many rows a block has
_BLOCK = 8192
_COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attgenerated = ''
FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_SET = "SELECT set_config(%s, %s, true)"


@dataclass(slots=True, kw_only=True)
class TrialTables:
    """What trials run with: `sent` writes to the scratch schema, `plan` names the live one.

    `rows`: the live tables' row counts. `most`: the most rows to copy of each. `deadline`: in monotonic seconds.
    `left_out` collects the indexes that could not be built.
    """

    conn: Connection
    sent: Batch
    plan: Plan
    live: Snapshot
    rows: Mapping[str, int]
    most: Mapping[str, int]
    interrupt: Interrupt
    deadline: float
    left_out: list[str] = field(default_factory=list)


def count_rows(conn: Connection, schema: str, size: TableSize) -> int:
    """Return a table's approximate row count from a sample of its blocks: statistics may be old or missing."""
    share = min(1.0, _BLOCKS * _BLOCK / size.heap) if size.heap else 1.0
    query = sql.SQL("SELECT count(*) FROM {} TABLESAMPLE SYSTEM ({})")
    row = conn.execute(query.format(sql.Identifier(schema, size.table), sql.Literal(100 * share))).fetchone()
    return round((row[0] if row else 0) / share)


def prepare(bench: TrialTables, source: Source) -> None:
    """Create the tables as they are now: run the applied statements, then adapt the columns and indexes that differ."""
    reached = bench.plan.version or UNVERSIONED
    first = bench.plan.steps[0]
    with bench.conn.pipeline():
        for step in source.steps:
            if step.version <= reached:
                bench.sent.run(step.statements)
        bench.sent.run(statement for statement in first.step.statements if statement not in first.statements)
    for table in bench.rows:
        _add_columns(bench, table)
    live, copied = bench.live.validated().objects, snapshot.take(bench.conn, bench.sent.schema).objects
    differing = [key for key in sorted(live.keys() ^ copied.keys()) if key.kind == "index" and key.parent in bench.rows]
    unsafe = _unsafe(bench, differing, function_calls.created(source))
    for key in differing:
        if key in unsafe:
            bench.left_out.append(key.name)
        else:
            _adapt_index(bench, key.name, live.get(key))


def _unsafe(bench: TrialTables, indexes: Sequence[Key], vendors: Collection[str]) -> set[Key]:
    """Return the indexes that would make another role's function run as a superuser."""
    unsafe = set()
    for table in {key.parent for key in indexes}:
        place = sql.Identifier(bench.plan.schema, table).as_string(bench.conn)
        ((oid,),) = bench.conn.execute("SELECT to_regclass(%s)::oid", [place]).fetchall()
        names = {f'index "{key.name}"': key for key in indexes if key.parent == table}
        own = tuple(key.name for key in names.values())
        parts = function_calls.TableCalls(table=oid, schema=bench.plan.schema, indexes=own)
        called = function_calls.look(bench.conn, parts, vendors)
        unsafe |= {names[call.what] for call in called if call.endangered and call.what in names}
    return unsafe


def _adapt_index(bench: TrialTables, name: str, definition: str | None) -> None:
    """Build one of the user's own indexes, whose functions may be in the live schema, or drop one that is not live."""
    drop = sql.SQL("DROP INDEX {}").format(sql.Identifier(bench.sent.schema, name)).as_string(bench.conn)
    wider = f"{bench.sent.path}, {sql.Identifier(bench.plan.schema).as_string(bench.conn)}"
    try:
        with bench.conn.transaction(), transactions.store_path(bench.conn, wider):
            bench.conn.execute((definition or drop).encode())
    except psycopg.Error:
        bench.left_out.append(name)


def _add_columns(bench: TrialTables, table: str) -> None:
    have = {name for name, _, _ in _columns(bench, bench.sent.schema, table)}
    for name, kind, _ in _columns(bench, bench.plan.schema, table):
        if name not in have:
            place = sql.Identifier(bench.sent.schema, table)
            add = sql.SQL("ALTER TABLE {} ADD COLUMN {} ").format(place, sql.Identifier(name))
            bench.conn.execute(add.as_string(bench.conn).encode() + kind.encode())


def _columns(bench: TrialTables, schema: str, table: str) -> list[tuple[str, str, bool]]:
    """Return (name, type, stored) for each of a table's columns; `stored` is false for a generated column."""
    name = sql.Identifier(schema, table).as_string(bench.conn)
    return bench.conn.execute(_COLUMNS, [name]).fetchall()


def copy_rows(bench: TrialTables, table: str, count: int) -> int:
    """Copy about `count` rows, from blocks all over the table; return the number of rows copied."""
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
    limit_time(bench)
    (copied,) = bench.conn.execute(query).fetchone() or (0,)
    return int(copied)


def limit_time(bench: TrialTables) -> None:
    """Limit the next statement to the time that the trials have left."""
    left = max(bench.deadline - time.monotonic(), 0.001)
    bench.sent.send(_SET, ["statement_timeout", f"{round(left * 1000)}ms"])

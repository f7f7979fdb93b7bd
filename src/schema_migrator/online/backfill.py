"""The backfill: rows are copied into the shadow table in primary key order, in batches that fit a time budget.

Every batch is a transaction that also marks the batch as done, so a killed run loses at most its open batches and the
next run resumes. No snapshot is held for longer than a batch. Rows that change later are copied again in `replay`.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from psycopg import sql

from schema_migrator import events
from schema_migrator.errors import LockLost
from schema_migrator.online.source_table import column_list as listed
from schema_migrator.online.source_table import identifiers as places
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schema_migrator.online.progress import Progress
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.postgres.connection import Connection

_SECONDS = 0.5
"""The target duration of a batch."""
_FEWEST, _FIRST, _MOST = 50, 500, 50_000
_COPY = """
WITH put AS (
  INSERT INTO {shadow} ({columns}) {rows} RETURNING 1
), counted AS (SELECT count(*) AS rows FROM put)
UPDATE {ours}.batches b SET rows = counted.rows FROM counted WHERE number = %s AND b.rows IS NULL RETURNING b.rows
"""
_ROWS = "(SELECT {columns} FROM {live} WHERE {within} ORDER BY {key})"
_NOTE = "INSERT INTO {ours}.batches VALUES (%s, %s, %s, NULL) ON CONFLICT DO NOTHING RETURNING number"
# As the planner estimates: the rows per page at the last count, times the table's pages now.
_ESTIMATE = """
SELECT (reltuples / relpages * pg_relation_size(oid) / current_setting('block_size')::int)::bigint
FROM pg_catalog.pg_class WHERE oid = %s AND reltuples > 0 AND relpages > 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The rows whose keys are above `after` (None: from the first) and not above `upto` (None: to the last)."""

    number: int
    after: list[str] | None
    upto: list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The keys whose first values are `same`, and whose next value is above `above` and below `upto`.

    If `included`, the next value may also equal `upto`. None means no limit.
    """

    same: tuple[str, ...] = ()
    above: str | None = None
    upto: str | None = None
    included: bool = False


@dataclass(slots=True, kw_only=True)
class _Batches:
    """Hands out batches to the workers of a pool, which share it. Batches that an earlier run left open come first."""

    live: SourceTable
    left: list[Batch]
    last: Batch | None
    progress: Progress
    size: int = _FIRST
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, pool: WorkerPool, conn: Connection) -> Batch | None:
        """Return the next batch, already written to the list of batches; None if there is none or the pool has failed.

        If writing a batch to the list fails, all workers stop: the batch may be in the list or not, and the list must
        not continue after a gap.
        """
        with self.lock:
            if pool.failed.is_set():
                return None
            if self.left:
                return self.left.pop()
            if self.last is not None and self.last.upto is None:
                return None
            try:
                self.last = self._note(pool, conn)
            except BaseException:
                pool.failed.set()
                raise
            return self.last

    def _note(self, pool: WorkerPool, conn: Connection) -> Batch:
        after = self.last.upto if self.last else None
        number = self.last.number + 1 if self.last else 0
        with pool.transaction(conn, self.live.schema):
            with transactions.planner(conn, seqscan="off"):
                row = conn.execute(*_boundary(self.live, after, self.size)).fetchone()
            upto = list(row) if row else None
            note = sql.SQL(_NOTE).format(**places(self.live))
            _assert_alone(conn.execute(note, [number, after, upto]).fetchone())
        return Batch(number=number, after=after, upto=upto)

    def give_back(self, batch: Batch) -> None:
        """Let another worker, or the same one later, copy a batch that could not be copied."""
        with self.lock:
            self.left.append(batch)

    def learn(self, rows: int, seconds: float) -> None:
        """Adapt the size of the next batches to the time that this one took."""
        with self.lock:
            if rows:
                wanted = rows * _SECONDS / max(seconds, 0.001)
                self.size = round(min(max(wanted, self.size / 2, _FEWEST), self.size * 2, _MOST))


def fill(pool: WorkerPool, live: SourceTable, columns: Sequence[str]) -> int:
    """Copy all rows; return their number, rows copied by earlier runs included. Raises what a transaction raises."""
    cutter = _take_up(pool, live)

    def copy_one(conn: Connection, batch: Batch) -> None:
        started = time.monotonic()
        rows = _copy_batch(pool, conn, live, columns, batch)
        cutter.learn(rows, time.monotonic() - started)
        cutter.progress.add(rows)

    def copy(conn: Connection) -> None:
        while pool.admit(conn) and (batch := cutter.next(pool, conn)) is not None:
            pool.work.interrupt.check()
            pool.throttle.keep(conn)
            if not pool.attempted(partial(copy_one, conn, batch)):
                cutter.give_back(batch)

    pool.each(copy)
    while cutter.left:  # given back after the others had ended
        pool.each(copy)
    return cutter.progress.done


def batches(conn: Connection, live: SourceTable) -> tuple[tuple[Batch, int | None], ...]:
    """Return the batches in key order, each with its number of rows, None while the batch is open."""
    query = sql.SQL("SELECT number, after, upto, rows FROM {}.batches ORDER BY number")
    listed_batches = transactions.ask(conn, query.format(sql.Identifier(live.ours)))
    return tuple((Batch(number=number, after=after, upto=upto), rows) for number, after, upto, rows in listed_batches)


def _take_up(pool: WorkerPool, live: SourceTable) -> _Batches:
    """Return the batches as an earlier run left them, or none yet."""
    earlier = batches(pool.conns[0], live)
    copied = sum(rows or 0 for _, rows in earlier)
    estimate = transactions.ask(pool.conns[0], _ESTIMATE, [live.oid])
    if earlier:
        events.logger().info("online.resumed", table=live.table, rows=copied)
    return _Batches(
        live=live,
        left=[batch for batch, rows in earlier if rows is None],
        last=earlier[-1][0] if earlier else None,
        progress=pool.progress(live.table, "backfill", "rows", estimate[0][0] if estimate else None, done=copied),
    )


def _copy_batch(pool: WorkerPool, conn: Connection, live: SourceTable, columns: Sequence[str], batch: Batch) -> int:
    named = {**places(live), "columns": listed(columns)}
    parts = [_within(live, part) for part in ranges(batch.after, batch.upto)]
    rows = sql.SQL(" UNION ALL ").join(sql.SQL(_ROWS).format(**named, within=condition) for condition, _ in parts)
    query, values = sql.SQL(_COPY).format(**named, rows=rows), [value for _, limits in parts for value in limits]
    with pool.transaction(conn, live.schema):
        # A crash may lose the last batches, but it loses their marks with them.
        conn.execute("SET LOCAL synchronous_commit = off")
        with transactions.planner(conn, seqscan="off"):  # an index scan, whatever the statistics say
            return _assert_alone(conn.execute(query, [*values, batch.number]).fetchone())


def _assert_alone(row: tuple[int] | None) -> int:
    """Return the row's value. Raises LockLost if a killed run's last transaction was faster; ours is rolled back."""
    if row is None:
        raise LockLost("another run has copied the same rows in the meantime", hint="run it again")
    return row[0]


def _boundary(live: SourceTable, after: Sequence[str] | None, size: int) -> tuple[sql.Composed, list[object]]:
    """Return the query for the key that ends a batch of `size` rows, and its values. No row: the batch is the last.

    A value that equals the one after which the batch begins gets the same spelling: types such as numeric have several.
    """
    key = listed(live.key_names, "l")  # a bare name would be the output text, and no index is sorted by that
    query = "SELECT {} FROM {} l WHERE {} ORDER BY {} OFFSET %s LIMIT 1"
    source = sql.Identifier(live.schema, live.table)
    if not after:
        texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in live.key_names)
        return sql.SQL(query).format(texts, source, sql.SQL("true"), key), [size - 1]
    same = "CASE WHEN {0} = %s::{1} THEN %s ELSE {0}::text END"
    texts = sql.SQL(", ").join(sql.SQL(same).format(sql.Identifier(name), sql.SQL(kind)) for name, kind in live.key)
    values = sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(kind)) for _, kind in live.key)
    above = sql.SQL("({}) > ({})").format(listed(live.key_names), values)
    twice = [value for value in after for _ in range(2)]
    return sql.SQL(query).format(texts, source, above, key), [*twice, *after, size - 1]


def ranges(after: Sequence[str] | None, upto: Sequence[str] | None) -> Iterator[Range]:
    """Yield ranges, in key order, that together contain all keys above `after` and not above `upto`.

    In each range the first columns have one value, and only the next column has limits. A row comparison would need
    only one range, but an index scan that reaches such a limit in a later column reads on to the end of the first
    column's value.
    """
    low, high = tuple(after or ()), tuple(upto or ())
    split = next((place for place, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), 0)
    last = max(len(low), len(high)) - 1
    for place in range(len(low) - 1, split, -1):
        yield Range(same=low[:place], above=low[place])
    both = {"above": low[split] if low else None, "upto": high[split] if high else None}
    yield Range(same=low[:split], **both, included=split == last)
    for place in range(split + 1, len(high)):
        yield Range(same=high[:place], upto=high[place], included=place == last)


def _within(live: SourceTable, part: Range) -> tuple[sql.Composed, list[str]]:
    """Return the condition that selects a range's rows, and its values as texts."""
    compared = [("=", value) for value in part.same]
    limits = [(">", part.above), ("<=" if part.included else "<", part.upto)]
    columns = [*live.key[: len(part.same)], *live.key[len(part.same) : len(part.same) + 1] * 2]
    comparisons = [
        (sql.SQL("{} {} %s::{}").format(sql.Identifier(name), sql.SQL(operator), sql.SQL(kind)), value)
        for (name, kind), (operator, value) in zip(columns, [*compared, *limits], strict=True)
        if value is not None
    ]
    conditions: list[sql.Composable] = [condition for condition, _ in comparisons] or [sql.SQL("true")]
    return sql.SQL(" AND ").join(conditions), [value for _, value in comparisons]

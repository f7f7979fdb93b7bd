"""Rows into the shadow: in the order of the primary key, in batches as long as a time budget allows.

Every batch is a transaction that also marks it as done, so that a killed run loses at most the open ones and
the next one carries on. No snapshot is held for longer than a batch.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import sql

from schema_migrator import events
from schema_migrator.errors import LockLost
from schema_migrator.online.source_table import column_list as listed
from schema_migrator.online.source_table import identifiers as places
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.postgres.connection import Connection

_SECONDS = 0.5
"""How long a batch is to take."""
_FEWEST, _FIRST, _MOST = 50, 500, 50_000
_COPY = """
WITH put AS (
  INSERT INTO {shadow} ({columns}) {rows} RETURNING 1
), counted AS (SELECT count(*) AS rows FROM put)
UPDATE {ours}.batches b SET rows = counted.rows FROM counted WHERE number = %s AND b.rows IS NULL RETURNING b.rows
"""
_ROWS = "(SELECT {columns} FROM {live} WHERE {within} ORDER BY {key})"
_NOTE = "INSERT INTO {ours}.batches VALUES (%s, %s, %s, NULL) ON CONFLICT DO NOTHING RETURNING number"
# As the planner reckons: the last count, carried on to the table's size now.
_ESTIMATE = """
SELECT (reltuples / relpages * pg_relation_size(oid) / current_setting('block_size')::int)::bigint
FROM pg_catalog.pg_class WHERE oid = %s AND reltuples > 0 AND relpages > 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows whose keys are above `after` (None: from the first on) and not above `upto` (None: to the last)."""

    number: int
    after: list[str] | None
    upto: list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Keys whose first values are `same`, and whose next one is above `above` and below `upto`, which may be included.

    None: no limit.
    """

    same: tuple[str, ...] = ()
    above: str | None = None
    upto: str | None = None
    included: bool = False


@dataclass(slots=True, kw_only=True)
class _Batches:
    """Hands out batches, those first that an earlier run left open; shared by the crew.

    `total`: about how many rows there are, None where nobody has counted them.
    """

    live: SourceTable
    left: list[Batch]
    last: Batch | None
    copied: int
    total: int | None
    beat: events.Interval
    size: int = _FIRST
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    copied_before: int = 0

    def next(self, pool: WorkerPool, conn: Connection) -> Batch | None:
        """Return the next batch, already noted in the list; None when there is none, or when the crew has failed.

        Whoever fails to note a batch stops all: it may be noted or not, and one after a gap never may be.
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

    def learn(self, rows: int, seconds: float) -> None:
        """Size the batches to come by what one took, and say now and then how far it is."""
        with self.lock:
            self.copied += rows
            if rows:
                wanted = rows * _SECONDS / max(seconds, 0.001)
                self.size = round(min(max(wanted, self.size / 2, _FEWEST), self.size * 2, _MOST))
            if self.beat.due():
                events.logger().info("online.copying", table=self.live.table, rows=self.copied, **self._rate())

    def _rate(self) -> dict[str, int]:
        """Say how fast it goes and, where that is known, how much is left."""
        rate = (self.copied - self.copied_before) / (time.monotonic() - self.started)
        found = {"rows_per_second": round(rate)}
        if self.total is None:
            return found
        left = max(self.total - self.copied, 0)
        percent = round(100 * self.copied / max(self.total, self.copied, 1))
        return found | {"left": left, "percent": percent} | ({"seconds_left": round(left / rate)} if rate else {})


def fill(pool: WorkerPool, live: SourceTable, columns: Sequence[str]) -> int:
    """Copy all rows; return how many. Raises what a transaction raises."""
    cutter = _take_up(pool, live)

    def copy(conn: Connection) -> None:
        while (batch := cutter.next(pool, conn)) is not None:
            pool.work.interrupt.check()
            pool.throttle.keep(conn)
            started = time.monotonic()
            cutter.learn(_copy_batch(pool, conn, live, columns, batch), time.monotonic() - started)

    pool.each(copy)
    return cutter.copied


def batches(conn: Connection, live: SourceTable) -> tuple[tuple[Batch, int | None], ...]:
    """Return the batches in the order of their keys, each with the number of its rows; None where it is open."""
    query = sql.SQL("SELECT number, after, upto, rows FROM {}.batches ORDER BY number")
    found = transactions.ask(conn, query.format(sql.Identifier(live.ours)))
    return tuple((Batch(number=number, after=after, upto=upto), rows) for number, after, upto, rows in found)


def _take_up(pool: WorkerPool, live: SourceTable) -> _Batches:
    """Return the batches as an earlier run left them."""
    found = batches(pool.conns[0], live)
    copied = sum(rows or 0 for _, rows in found)
    estimate = transactions.ask(pool.conns[0], _ESTIMATE, [live.oid])
    if found:
        events.logger().info("online.resumed", table=live.table, rows=copied)
    return _Batches(
        live=live,
        left=[batch for batch, rows in found if rows is None],
        last=found[-1][0] if found else None,
        copied=copied,
        copied_before=copied,
        total=estimate[0][0] if estimate else None,
        beat=pool.beat(),
    )


def _copy_batch(pool: WorkerPool, conn: Connection, live: SourceTable, columns: Sequence[str], batch: Batch) -> int:
    named = {**places(live), "columns": listed(columns)}
    parts = [_within(live, part) for part in ranges(batch.after, batch.upto)]
    rows = sql.SQL(" UNION ALL ").join(sql.SQL(_ROWS).format(**named, within=condition) for condition, _ in parts)
    query, values = sql.SQL(_COPY).format(**named, rows=rows), [value for _, found in parts for value in found]
    with pool.transaction(conn, live.schema):
        # An index scan whatever the statistics say; and a crash may take batches back with their marks.
        conn.execute("SET LOCAL synchronous_commit = off")
        with transactions.planner(conn, seqscan="off"):
            return _assert_alone(conn.execute(query, [*values, batch.number]).fetchone())


def _assert_alone(row: tuple[int] | None) -> int:
    """Return the answer. Raises LockLost where a killed run's last transaction was faster: this one is rolled back."""
    if row is None:
        raise LockLost("another run has copied the same rows in the meantime", hint="run it again")
    return row[0]


def _boundary(live: SourceTable, after: Sequence[str] | None, size: int) -> tuple[sql.Composed, list[object]]:
    """Return the query for the key that ends a batch of so many rows; without a row, the batch is the last.

    A value that is the same as where the batch begins is written the same way, which types such as numeric leave open.
    """
    key = listed(live.key_names, "l")  # bare names would be those of the texts, by which no index is sorted
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
    """Return, in the order of keys, ranges that together are all keys above `after` and not above `upto`.

    In each, the first columns have one value and only the next one has limits. Row comparisons would say it in one
    range, but an index scan that meets such a limit beyond the first column goes on to the end of that column's value.
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
    """Return the condition that holds for a range's rows, and its values, which come as texts."""
    compared = [("=", value) for value in part.same]
    limits = [(">", part.above), ("<=" if part.included else "<", part.upto)]
    columns = [*live.key[: len(part.same)], *live.key[len(part.same) : len(part.same) + 1] * 2]
    found = [
        (sql.SQL("{} {} %s::{}").format(sql.Identifier(name), sql.SQL(operator), sql.SQL(kind)), value)
        for (name, kind), (operator, value) in zip(columns, [*compared, *limits], strict=True)
        if value is not None
    ]
    conditions: list[sql.Composable] = [condition for condition, _ in found] or [sql.SQL("true")]
    return sql.SQL(" AND ").join(conditions), [value for _, value in found]

"""Rows into the shadow: in the order of the primary key, in batches as long as a time budget allows.

Every batch is a transaction that also marks it as done, so that a killed run loses at most the open ones and
the next one carries on. No snapshot is held for longer than a batch.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator import database, logs
from schema_migrator.errors import LockLost
from schema_migrator.shadow import listed, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.crew import Crew
    from schema_migrator.database import Connection
    from schema_migrator.shadow import Live

_SECONDS = 0.5
"""How long a batch is to take."""
_FEWEST, _FIRST, _MOST = 50, 500, 50_000
_COPY = """
WITH put AS (
  INSERT INTO {shadow} ({columns}) SELECT {columns} FROM {live} WHERE {within} ORDER BY {key} RETURNING 1
), counted AS (SELECT count(*) AS rows FROM put)
UPDATE {ours}.batches b SET rows = counted.rows FROM counted WHERE number = %s AND b.rows IS NULL RETURNING b.rows
"""
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


@dataclass(slots=True, kw_only=True)
class _Cutter:
    """Hands out batches, those first that an earlier run left open; shared by the crew.

    `total`: about how many rows there are, None where nobody has counted them.
    """

    live: Live
    left: list[Batch]
    last: Batch | None
    copied: int
    total: int | None
    beat: logs.Beat
    size: int = _FIRST
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    copied_before: int = 0

    def next(self, crew: Crew, conn: Connection) -> Batch | None:
        """Return the next batch, already noted in the list; None when there is none, or when the crew has failed.

        Whoever fails to note a batch stops all: it may be noted or not, and one after a gap never may be.
        """
        with self.lock:
            if crew.failed.is_set():
                return None
            if self.left:
                return self.left.pop()
            if self.last is not None and self.last.upto is None:
                return None
            try:
                self.last = self._note(crew, conn)
            except BaseException:
                crew.failed.set()
                raise
            return self.last

    def _note(self, crew: Crew, conn: Connection) -> Batch:
        after = self.last.upto if self.last else None
        number = self.last.number + 1 if self.last else 0
        with crew.transaction(conn, self.live.schema):
            with database.planner(conn, seqscan="off"):
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
                logs.logger().info("online.copying", table=self.live.table, rows=self.copied, **self._rate())

    def _rate(self) -> dict[str, int]:
        """Say how fast it goes and, where that is known, how much is left."""
        rate = (self.copied - self.copied_before) / (time.monotonic() - self.started)
        found = {"rows_per_second": round(rate)}
        if self.total is None:
            return found
        left = max(self.total - self.copied, 0)
        percent = round(100 * self.copied / max(self.total, self.copied, 1))
        return found | {"left": left, "percent": percent} | ({"seconds_left": round(left / rate)} if rate else {})


def fill(crew: Crew, live: Live, columns: Sequence[str]) -> int:
    """Copy all rows; return how many. Raises what a transaction raises."""
    cutter = _take_up(crew, live)

    def copy(conn: Connection) -> None:
        while (batch := cutter.next(crew, conn)) is not None:
            crew.work.interrupt.check()
            crew.pace.keep(conn)
            started = time.monotonic()
            cutter.learn(_copy_batch(crew, conn, live, columns, batch), time.monotonic() - started)

    crew.each(copy)
    return cutter.copied


def batches(conn: Connection, live: Live) -> tuple[tuple[Batch, int | None], ...]:
    """Return the batches in the order of their keys, each with the number of its rows; None where it is open."""
    query = sql.SQL("SELECT number, after, upto, rows FROM {}.batches ORDER BY number")
    found = database.ask(conn, query.format(sql.Identifier(live.ours)))
    return tuple((Batch(number=number, after=after, upto=upto), rows) for number, after, upto, rows in found)


def _take_up(crew: Crew, live: Live) -> _Cutter:
    """Return the batches as an earlier run left them."""
    found = batches(crew.conns[0], live)
    copied = sum(rows or 0 for _, rows in found)
    estimate = database.ask(crew.conns[0], _ESTIMATE, [live.oid])
    if found:
        logs.logger().info("online.resumed", table=live.table, rows=copied)
    return _Cutter(
        live=live,
        left=[batch for batch, rows in found if rows is None],
        last=found[-1][0] if found else None,
        copied=copied,
        copied_before=copied,
        total=estimate[0][0] if estimate else None,
        beat=crew.beat(),
    )


def _copy_batch(crew: Crew, conn: Connection, live: Live, columns: Sequence[str], batch: Batch) -> int:
    condition, values = within(live, batch)
    query = sql.SQL(_COPY).format(**places(live), columns=listed(columns), within=condition)
    with crew.transaction(conn, live.schema):
        # An index scan whatever the statistics say; and a crash may take batches back with their marks.
        conn.execute("SET LOCAL synchronous_commit = off")
        with database.planner(conn, seqscan="off"):
            return _assert_alone(conn.execute(query, [*values, batch.number]).fetchone())


def _assert_alone(row: tuple[int] | None) -> int:
    """Return the answer. Raises LockLost where a killed run's last transaction was faster: this one is rolled back."""
    if row is None:
        raise LockLost("another run has copied the same rows meanwhile", hint="run it again")
    return row[0]


def _boundary(live: Live, after: Sequence[str] | None, size: int) -> tuple[sql.Composed, list[object]]:
    """Return the query for the key that ends a batch of so many rows; without a row, the batch is the last."""
    key = listed(live.key_names, "l")  # bare names would be those of the texts, by which no index is sorted
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in live.key_names)
    query = "SELECT {} FROM {} l WHERE {} ORDER BY {} OFFSET %s LIMIT 1"
    source = sql.Identifier(live.schema, live.table)
    above = _compared(live, ">") if after else sql.SQL("true")
    return sql.SQL(query).format(texts, source, above, key), [*(after or ()), size - 1]


def within(live: Live, batch: Batch) -> tuple[sql.Composed, list[str]]:
    """Return the condition that holds for a batch's rows, and its values."""
    above = _compared(live, ">") if batch.after else sql.SQL("true")
    upto = _compared(live, "<=") if batch.upto else sql.SQL("true")
    return sql.SQL("{} AND {}").format(above, upto), [*(batch.after or ()), *(batch.upto or ())]


def _compared(live: Live, operator: LiteralString) -> sql.Composable:
    """Compare the key with values that come as texts."""
    values = sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(kind)) for _, kind in live.key)
    return sql.SQL("({}) {} ({})").format(listed(live.key_names), sql.SQL(operator), values)

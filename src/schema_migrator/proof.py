"""Proof that the copy holds every row as it is: without it the table that it replaces is never given up.

Batch by batch both tables are read under one snapshot. A row that differs there has changed since it was copied,
and then the log has its key: whatever else differs is an error of the copy.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator import copying, logs
from schema_migrator.errors import NotAsRehearsed
from schema_migrator.traces import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.copying import Batch
    from schema_migrator.crew import Crew
    from schema_migrator.database import Connection
    from schema_migrator.shadow import Live

# Bytes are compared, not values: json knows no equality, and 1.0 is not 1.00.
_DIFFERING: LiteralString = """
SELECT count(*) FROM (
  SELECT {key}, here, there, l *<> s AS differs
  FROM (SELECT {columns}, true AS here FROM {live} WHERE {within}) l
  FULL JOIN (SELECT {columns}, true AS there FROM {shadow} WHERE {within}) s USING ({key})
) pairs
WHERE (here IS NULL OR there IS NULL OR differs) AND ({key}) NOT IN (SELECT {key} FROM {ours}.log)
"""


def prove(crew: Crew, live: Live, columns: Sequence[str]) -> None:
    """Compare all rows. Raises NotAsRehearsed where a row is missing, is too many or is not the same."""
    started, beat = time.monotonic(), crew.beat()
    ranges = _ranges(crew.conns[0], live)
    done: list[Batch] = []

    def compare(conn: Connection, batch: Batch) -> None:
        with crew.transaction(conn, live.schema):
            conn.execute("SET LOCAL enable_seqscan = off")
            row = conn.execute(*_differing(live, columns, batch)).fetchone()
        assert row is not None  # noqa: S101 - count(*) always answers
        if row[0]:
            raise NotAsRehearsed(
                f'{row[0]} rows of the copy of "{live.table}" are not as in the table, which was left alone',
                hint="please report it; migrate --rewrite in-place does it as the vendor's steps stand",
            )
        done.append(batch)
        if beat.due():
            logs.logger().info("online.proving", table=live.table, batches=len(done), of=len(ranges))

    crew.share(ranges, compare)
    logs.logger().info("online.proved", table=live.table, seconds=round(time.monotonic() - started, 1))


def _ranges(conn: Connection, live: Live) -> list[Batch]:
    """Return batches that leave no key out, whatever the list of those that were copied says."""
    found = [batch for batch, _ in copying.batches(conn, live)]
    ends = [batch.upto for batch in found if batch.upto is not None]
    starts = [None, *ends]
    return [
        copying.Batch(number=number, after=after, upto=upto)
        for number, (after, upto) in enumerate(zip(starts, [*ends, None], strict=True))
    ]


def _differing(live: Live, columns: Sequence[str], batch: Batch) -> tuple[sql.Composed, list[str]]:
    """Return the query for the number of rows of a batch that differ and are not in the log."""
    condition, values = copying.within(live, batch)
    query = sql.SQL(_DIFFERING).format(
        ours=sql.Identifier(live.ours),
        shadow=sql.Identifier(live.ours, ROWS),
        live=sql.Identifier(live.schema, live.table),
        key=sql.SQL(", ").join(map(sql.Identifier, live.key_names)),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        within=condition,
    )
    return query, [*values, *values]

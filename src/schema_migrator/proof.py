"""Proof that the copy holds every row as it is: without it the table that it replaces is never given up.

Both tables are read anew, a part at a time under one snapshot each. A row that differs there has changed since it was
copied, and then the log has its key: whatever else differs is an error. The rows are looked for in two ways, by
their keys and as they lie on the disk: what a damaged index does not lead to would else be missing unseen.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, LiteralString, NoReturn

from psycopg import sql

from schema_migrator import copying, logs, shadow, swap
from schema_migrator.errors import NotAsRehearsed
from schema_migrator.shadow import listed, places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema_migrator.copying import Batch
    from schema_migrator.crew import Crew
    from schema_migrator.database import Connection
    from schema_migrator.reshape import Shape
    from schema_migrator.shadow import Live

_PAGES = 8192
_FIRST_WITH_RANGES = 140000  # before, PostgreSQL read the whole table for each range of pages
_END = "(4294967295,0)"
# Bytes are compared, not values: json knows no equality, and 1.0 is not 1.00.
_DIFFERING: LiteralString = """
SELECT count(*) FROM (
  SELECT {key}, here, there, l *<> s AS differs
  FROM (SELECT {columns}, true AS here FROM {live} WHERE {within}) l
  FULL JOIN (SELECT {columns}, true AS there FROM {shadow} WHERE {within}) s USING ({key})
) pairs
WHERE (here IS NULL OR there IS NULL OR differs) AND ({key}) NOT IN (SELECT {key} FROM {ours}.log)
"""
_UNFOUND: LiteralString = """
SELECT count(*) FROM {live} l
WHERE l.ctid >= %s::tid AND l.ctid < %s::tid AND ({of_l}) NOT IN (SELECT {key} FROM {ours}.log)
  AND NOT EXISTS (SELECT FROM {shadow} s WHERE ({of_s}) = ({of_l}))
"""
_SIZE = "SELECT pg_relation_size(%s) / current_setting('block_size')::int"


def prove(crew: Crew, live: Live, shape: Shape) -> None:
    """Compare all rows. Raises NotAsRehearsed where one is missing, too many or not the same, and TableChanged."""
    started = time.monotonic()
    columns = shadow.columns(crew.conns[0], live, shape, computed=True)
    checks = [partial(_compare, crew, live, columns, batch) for batch in _batches(crew.conns[0], live)]
    checks += [partial(_search, crew, live, *ends) for ends in _stretches(crew.conns[0], live)]

    def run(conn: Connection, check: Callable[[Connection], int]) -> None:
        if wrong := check(conn):
            _refuse(crew, conn, live, shape, wrong)

    def tell(done: int) -> None:
        logs.logger().info("online.proving", table=live.table, parts=done, of=len(checks))

    crew.share(checks, run, tell)
    logs.logger().info("online.proved", table=live.table, seconds=round(time.monotonic() - started, 1))


def _refuse(crew: Crew, conn: Connection, live: Live, shape: Shape, wrong: int) -> NoReturn:
    """Say why rows differ: the table was changed as a whole, or the copy is wrong."""
    with crew.transaction(conn, live.schema):
        swap.assert_same(conn, live, shape)
    raise NotAsRehearsed(
        f'{wrong} rows of the copy of "{live.table}" are not as in the table, which was left alone',
        hint="look for damaged indexes (amcheck, REINDEX); migrate --rewrite in-place does without a copy",
    )


def _compare(crew: Crew, live: Live, columns: Sequence[str], batch: Batch, conn: Connection) -> int:
    condition, values = copying.within(live, batch)
    query = sql.SQL(_DIFFERING).format(**places(live), columns=listed(columns), within=condition)
    with crew.transaction(conn, live.schema):
        conn.execute("SET LOCAL enable_seqscan = off")
        row = conn.execute(query, [*values, *values]).fetchone()
    return int(row[0]) if row else 0


def _search(crew: Crew, live: Live, start: str, end: str, conn: Connection) -> int:
    with crew.transaction(conn, live.schema):
        # The table is read as it lies there, whatever the role's own settings are; keys are looked up in the copy.
        for method, on in (("seqscan", "on"), ("tidscan", "on"), ("hashjoin", "off"), ("mergejoin", "off")):
            conn.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(f"enable_{method}"), sql.SQL(on)))
        of_l, of_s = listed(live.key_names, "l"), listed(live.key_names, "s")
        query = sql.SQL(_UNFOUND).format(**places(live), of_l=of_l, of_s=of_s)
        row = conn.execute(query, [start, end]).fetchone()
    return int(row[0]) if row else 0


def _batches(conn: Connection, live: Live) -> list[Batch]:
    """Return batches that leave no key out, whatever the list of those that were copied says."""
    found = [batch for batch, _ in copying.batches(conn, live)]
    ends = [batch.upto for batch in found if batch.upto is not None]
    return [
        copying.Batch(number=number, after=after, upto=upto)
        for number, (after, upto) in enumerate(zip([None, *ends], [*ends, None], strict=True))
    ]


def _stretches(conn: Connection, live: Live) -> list[tuple[str, str]]:
    """Return stretches of the table's file, each from one place (inclusive) to another (exclusive)."""
    row = conn.execute(_SIZE, [live.oid]).fetchone()
    pages = row[0] if row and conn.info.server_version >= _FIRST_WITH_RANGES else 0
    starts = [f"({page},0)" for page in range(0, max(pages, 1), _PAGES)]
    return list(zip(starts, [*starts[1:], _END], strict=True))

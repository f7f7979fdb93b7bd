"""The proof of rows that were replayed after the proof of all rows, while the cutover is held.

The replay notes the keys that it replays. For each, table and copy must have the same row, or none, under one snapshot,
unless the change log has the key again: then the row has changed since, and will be replayed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, LiteralString, NoReturn

from psycopg import sql

from schema_migrator.catalog.leftovers import REPLAYED
from schema_migrator.online import cutover, damage, source_table
from schema_migrator.online.damage import Fault
from schema_migrator.online.source_table import column_list as listed
from schema_migrator.online.source_table import identifiers as places
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.planning.rewrite_span import TargetShape

_MOST = 20_000
# Bytes are compared, not values: see copy_proof.
_CHECK: LiteralString = """
SELECT {texts}, l.schema_migrator_place::text, s.schema_migrator_copied::text
FROM (SELECT DISTINCT {key} FROM (SELECT {key} FROM {replayed} ORDER BY ctid LIMIT %s) part) k
LEFT JOIN LATERAL (
  SELECT lying.ctid AS schema_migrator_place, {columns} FROM {live} lying WHERE ({of_lying}) = ({of_k}) OFFSET 0
) l ON true
LEFT JOIN LATERAL (
  SELECT copied.ctid AS schema_migrator_copied, {columns} FROM {shadow} copied WHERE ({of_copied}) = ({of_k}) OFFSET 0
) s ON true
WHERE ((l.schema_migrator_place IS NULL) <> (s.schema_migrator_copied IS NULL)
    OR ROW({columns_l})::record *<> ROW({columns_s})::record)
  AND NOT EXISTS (SELECT FROM {ours}.log g WHERE ({of_g}) = ({of_k}))
LIMIT 1
"""
_DONE: LiteralString = "DELETE FROM {0} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {0} ORDER BY ctid LIMIT %s))"


def prepare(pool: WorkerPool, live: SourceTable, shape: TargetShape) -> Callable[[], None]:
    """Return a function that compares the rows that were replayed since it was last called.

    It raises Damaged for a difference, or TableChanged.
    """
    columns = source_table.columns(pool.conns[0], live, shape, computed=True)
    aliases: tuple[LiteralString, ...] = ("g", "k", "lying", "copied")
    query = sql.SQL(_CHECK).format(
        **places(live),
        **{f"of_{alias}": listed(live.key_names, alias) for alias in aliases},
        columns=listed(columns),
        columns_l=listed(columns, "l"),
        columns_s=listed(columns, "s"),
        texts=damage.texts(live, "k"),
        replayed=sql.Identifier(live.ours, REPLAYED),
    )
    return partial(_prove, pool, live, shape, query)


def _prove(pool: WorkerPool, live: SourceTable, shape: TargetShape, query: sql.Composed) -> None:
    conn, done = pool.conns[0], sql.SQL(_DONE).format(sql.Identifier(live.ours, REPLAYED))
    while True:
        pool.work.interrupt.check()
        with pool.transaction(conn, live.schema):
            damage.assert_nothing_hidden(conn)
            with transactions.planner(conn, seqscan="off", indexonlyscan="off"):
                row = conn.execute(query, [_MOST]).fetchone()
            proven = 0 if row else conn.execute(done, [_MOST]).rowcount
        if row is not None:
            _refuse(pool, live, shape, row)
        if proven < _MOST:
            return


def _refuse(
    pool: WorkerPool, live: SourceTable, shape: TargetShape, row: tuple[list[str], str | None, str | None]
) -> NoReturn:
    """Raise TableChanged if the table was emptied or altered, which explains the difference; otherwise Damaged."""
    with pool.transaction(pool.conns[0], live.schema):
        cutover.assert_same(pool.conns[0], live, shape)
    key, place, copied = row
    what = damage.SURPLUS if place is None else damage.DIFFERS if copied else damage.MISSING
    raise damage.refusal(live, Fault(what=what, key=tuple(key), places=(place,) if place else ()))

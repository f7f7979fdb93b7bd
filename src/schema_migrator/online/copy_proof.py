"""The proof that the copy has every row unchanged. Without it the old table is never replaced.

A damaged index must not hide a row, either from the proof or from what follows it. So the live table is read in
physical order, a range of pages at a time, each under one snapshot. For every row the proof checks that

1. the primary key's index leads, by the row's key, to this row and to no other: no two rows have the same key, and the
   replays that follow, which look rows up by key, find every row;
2. the copy has a row with the same key and the same bytes in every column that stays, or the change log has the key: in
   that case the row has changed since it was copied, and is replayed before the cutover.

By 1 and 2, no two rows of the table correspond to the same row of the copy. So the copy has at least as many rows as
the table, if keys in the change log are left out on both sides. If both counts, taken under one snapshot, are equal,
the copy has no surplus row. The count comes last: a key that is not in the change log then has not changed during the
whole proof, so what was seen of its row under an earlier snapshot still holds.

The planner is not trusted to read in physical order. A subquery with OFFSET 0 makes every index of the live table
useless to it, and the plan is checked before the result is believed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, LiteralString, NoReturn

from psycopg import sql

from schema_migrator import events
from schema_migrator.online import cutover, damage, query_plans, source_table
from schema_migrator.online.damage import Fault
from schema_migrator.online.source_table import column_list as listed
from schema_migrator.online.source_table import identifiers as places
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.errors import NotAsRehearsed
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection

_PAGES = 1024
_FIRST_WITH_RANGES = 140000  # before, PostgreSQL read the whole table for each range of pages
_END = "(4294967295,0)"
# Bytes are compared, not values: json has no equality operator, and 1.0 must not pass for 1.00. The change log is
# joined last, by hash, for rows with a difference only: a condition on each row would read the whole log for each.
_CHECK: LiteralString = """
SELECT f.schema_migrator_key, f.schema_migrator_place::text, f.schema_migrator_led::text[], f.schema_migrator_same,
  f.schema_migrator_copied
FROM (
  SELECT {of_l}, {texts} AS schema_migrator_key, l.schema_migrator_place, d.schema_migrator_led,
    d.schema_migrator_same, s.schema_migrator_copied,
    d.schema_migrator_led IS DISTINCT FROM ARRAY[l.schema_migrator_place]
      OR d.schema_migrator_same IS NOT TRUE AS schema_migrator_astray
  FROM (
    SELECT lying.ctid AS schema_migrator_place, {columns} FROM {live} lying
    WHERE lying.ctid >= {start} AND lying.ctid < {end} OFFSET 0
  ) l
  CROSS JOIN LATERAL (
    SELECT array_agg(x.schema_migrator_place) AS schema_migrator_led,
      bool_and(({of_x}) = ({of_l})) AS schema_migrator_same
    FROM (
      SELECT led.ctid AS schema_migrator_place, {of_led} FROM {live} led
      WHERE {leads} ORDER BY {of_led} LIMIT 2
    ) x
  ) d
  LEFT JOIN LATERAL (
    SELECT true AS schema_migrator_copied, {columns} FROM {shadow} copied WHERE ({of_copied}) = ({of_l}) OFFSET 0
  ) s ON true
  WHERE d.schema_migrator_led IS DISTINCT FROM ARRAY[l.schema_migrator_place] OR d.schema_migrator_same IS NOT TRUE
    OR s.schema_migrator_copied IS NULL OR ROW({columns_l})::record *<> ROW({columns_s})::record
  OFFSET 0
) f LEFT JOIN (SELECT DISTINCT true AS schema_migrator_logged, {key} FROM {ours}.log) g ON ({of_g}) = ({of_f})
WHERE f.schema_migrator_astray OR g.schema_migrator_logged IS NULL
LIMIT 1
"""
# ctids are counted, otherwise an index-only scan could answer.
_COUNTED: LiteralString = """
(SELECT count(l.schema_migrator_place) FROM (SELECT {alias}.ctid AS schema_migrator_place, {key} FROM {table} {alias}
  OFFSET 0) l WHERE NOT EXISTS (SELECT FROM {ours}.log g WHERE ({of_g}) = ({of_l})))
"""
_SURPLUS: LiteralString = """
SELECT {texts} FROM (SELECT copied.ctid AS schema_migrator_place, {key} FROM {shadow} copied OFFSET 0) s
WHERE NOT EXISTS (SELECT FROM {ours}.log g WHERE ({of_g}) = ({of_s}))
  AND NOT EXISTS (SELECT FROM (SELECT lying.ctid AS schema_migrator_place, {key} FROM {live} lying OFFSET 0) l
    WHERE ({of_l}) = ({of_s}) AND l.schema_migrator_place IS NOT NULL)
LIMIT 1
"""
_SIZE = "SELECT pg_relation_size(%s) / current_setting('block_size')::int, current_setting('server_version_num')::int"
_Ends = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """The copy to prove: `columns` are those that stay, generated ones included; `primary` is the live key's index."""

    pool: WorkerPool
    live: SourceTable
    shape: TargetShape
    columns: tuple[str, ...]
    primary: str


def prove(pool: WorkerPool, live: SourceTable, shape: TargetShape) -> None:
    """Compare all rows. Raises Damaged if one is missing, surplus, different, or not reached through the index.

    Raises TableChanged if the table was emptied or altered.
    """
    started, first = time.monotonic(), pool.conns[0]
    columns, (primary, _) = source_table.columns(first, live, shape, computed=True), source_table.primary(first, live)
    copy = _Copy(pool=pool, live=live, shape=shape, columns=columns, primary=primary)
    ranges = _page_ranges(first, live)

    progress = pool.progress(live.table, "proof", "page ranges", len(ranges))
    pool.share(ranges, partial(_compare, copy), progress)
    events.logger().info("online.counting", table=live.table)
    pool.share([copy], _count)
    events.logger().info("online.verified", table=live.table, seconds=round(time.monotonic() - started, 1))


def _refuse(copy: _Copy, conn: Connection, error: NotAsRehearsed) -> NoReturn:
    """Raise TableChanged if the table was emptied or altered, which explains the difference; otherwise the error."""
    with copy.pool.transaction(conn, copy.live.schema):
        cutover.assert_same(conn, copy.live, copy.shape)
    raise error


def _compare(copy: _Copy, conn: Connection, ends: _Ends) -> None:
    """Check the rows of a page range. Raises Damaged for the first row with a fault."""
    live, start, end = copy.live, *map(_tid, ends)
    aliases: tuple[LiteralString, ...] = ("f", "g", "l", "x", "led", "copied")
    query = sql.SQL(_CHECK).format(
        **places(live),
        **{f"of_{alias}": listed(live.key_names, alias) for alias in aliases},
        columns=listed(copy.columns),
        columns_l=listed(copy.columns, "l"),
        columns_s=listed(copy.columns, "s"),
        texts=damage.texts(live, "l"),
        leads=_leads(live.key_names),
        start=start,
        end=end,
    )
    with copy.pool.transaction(conn, live.schema):
        damage.assert_nothing_hidden(conn)
        # With sorts off, only the primary key's index gives its order; without statistics another one looks as cheap.
        sorts = {"sort": "off", "incremental_sort": "off"}
        with transactions.planner(conn, seqscan="off", bitmapscan="off", nestloop="off", **sorts):
            query_plans.assert_scans(conn, live, query, {"lying": query_plans.PHYSICAL, "led": copy.primary})
            row = conn.execute(query).fetchone()
    if row is not None:
        _refuse(copy, conn, damage.refusal(live, _fault(*row)))


def _leads(key: Sequence[str]) -> sql.Composed:
    """Return the condition for the index entries of a row's key, with the last column as a range of one value.

    Only a range of the last column ends the scan at once. A range of whole rows reads on while the first column is the
    same.
    """
    *before, last = map(sql.Identifier, key)
    parts = [sql.SQL("led.{0} = l.{0}").format(name) for name in before]
    parts += [sql.SQL("led.{0} >= l.{0} AND led.{0} <= l.{0}").format(last)]
    return sql.SQL(" AND ").join(parts)


def _fault(key: list[str], place: str, led: list[str] | None, same: bool | None, copied: bool | None) -> Fault:  # noqa: FBT001 - a row's
    """Return what is wrong with a row. A wrong index entry counts first, because it may be why the copy is wrong."""
    others = [other for other in led or () if other != place]
    if not led:
        return Fault(what=damage.UNLED, key=tuple(key), places=(place,))
    if others or not same:
        return Fault(what=damage.DOUBLED if same else damage.MISLED, key=tuple(key), places=(place, *others))
    return Fault(what=damage.DIFFERS if copied else damage.MISSING, key=tuple(key), places=(place,))


def _count(conn: Connection, copy: _Copy) -> None:
    """Count the rows of both tables. Raises Damaged if the counts differ."""
    live = copy.live
    query = sql.SQL("SELECT {} AS live, {} AS copied").format(_counted(live, "lying"), _counted(live, "copied"))
    with copy.pool.transaction(conn, live.schema):
        damage.assert_nothing_hidden(conn)
        with transactions.planner(conn, nestloop="off"):
            query_plans.assert_scans(conn, live, query, {"lying": query_plans.PHYSICAL, "copied": query_plans.PHYSICAL})
            ((rows, copied),) = conn.execute(query).fetchall()
        if rows == copied:
            return
        fault = _surplus(conn, live) or damage.twins(conn, live)
    _refuse(copy, conn, damage.refusal(live, fault) if fault else damage.miscounted(live, rows, copied))


def _counted(live: SourceTable, alias: LiteralString) -> sql.Composed:
    known = places(live)
    of_g, of_l = listed(live.key_names, "g"), listed(live.key_names, "l")
    table = known["live" if alias == "lying" else "shadow"]
    return sql.SQL(_COUNTED).format(**known, alias=sql.SQL(alias), table=table, of_g=of_g, of_l=of_l)


def _surplus(conn: Connection, live: SourceTable) -> Fault | None:
    """Return a row of the copy that the table does not have, None if there is none; slow."""
    aliases: tuple[LiteralString, ...] = ("g", "l", "s")
    query = sql.SQL(_SURPLUS).format(
        **places(live),
        **{f"of_{alias}": listed(live.key_names, alias) for alias in aliases},
        texts=damage.texts(live, "s"),
    )
    row = conn.execute(query).fetchone()
    return Fault(what=damage.SURPLUS, key=tuple(row[0])) if row else None


def _tid(place: str) -> sql.Composed:
    return sql.SQL("{}::tid").format(sql.Literal(place))


def _page_ranges(conn: Connection, live: SourceTable) -> list[_Ends]:
    """Return page ranges that cover the table's file, each from one ctid (inclusive) to another (exclusive)."""
    ((pages, version),) = transactions.ask(conn, _SIZE, [live.oid])
    starts = [f"({page},0)" for page in range(0, max(pages if version >= _FIRST_WITH_RANGES else 0, 1), _PAGES)]
    return list(zip(starts, [*starts[1:], _END], strict=True))

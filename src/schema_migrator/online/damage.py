"""How a damaged table or index shows in an online rewrite, and the one refusal for it.

Most often an index is damaged: no entry leads to a row, two rows have the same key, or an entry leads to another row.
The refusal names the table and leaves it unchanged: REINDEX is for the operator to run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator.errors import Damaged, RewriteBlocked
from schema_migrator.online.source_table import column_list as listed
from schema_migrator.online.source_table import identifiers as places

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.postgres.connection import Connection

UNLED = "no entry of the primary key's index points to a row of {}"
DOUBLED = "two rows of {} have the same key"
MISLED = "an entry of the primary key's index points to another row of {}"
GONE = "an index points to a row of {} that was deleted"
MISSING = "the copy lacks a row of {}"
DIFFERS = "a row of the copy differs from the row of {}"
SURPLUS = "the copy has a row that is not in {}"

_REINDEX = "check the table with amcheck (bt_index_check, verify_heapam), REINDEX it, then run this again"
_DELETE = (
    "delete the row that does not belong there by its ctid, check the table with amcheck (bt_index_check, "
    "verify_heapam), REINDEX it, then run this again"
)
_SHOWN = 100  # characters of a key's value
_PAGE = re.compile(r"\((\d+),\d+\)")
# Each of these settings hides damaged rows or accepts wrong ones, with no more than a warning.
_HIDING = ("ignore_checksum_failure", "ignore_system_indexes", "zero_damaged_pages")
_ON = "SELECT name FROM pg_catalog.pg_settings WHERE name = ANY (%s) AND setting = 'on' ORDER BY 1"
# The ctids rule out an index-only scan, and OFFSET 0 makes an index's order useless.
_TWINS: LiteralString = """
SELECT {texts}, array_agg(l.schema_migrator_place::text ORDER BY l.schema_migrator_place::text)
FROM (SELECT lying.ctid AS schema_migrator_place, {key} FROM {live} lying OFFSET 0) l
GROUP BY {of_l} HAVING count(l.schema_migrator_place) > 1 LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong (UNLED to SURPLUS), the key's values as texts, and the ctids of the rows."""

    what: str
    key: tuple[str, ...]
    places: tuple[str, ...] = ()


def refusal(live: SourceTable, fault: Fault) -> Damaged:
    """Return the error, which names the table, the key, the blocks and the remedy."""
    names = zip(live.key_names, fault.key, strict=True)
    key = ", ".join(f"{name} = {_shortened(value)}" for name, value in names)
    what = fault.what.format(f'"{live.table}"')
    return Damaged(
        f"{what}, expected an undamaged table; it was not replaced and is unchanged: {key}{_where(fault.places)}",
        hint=_DELETE if fault.what == DOUBLED else _REINDEX,
    )


def led_twice(live: SourceTable, detail: str) -> Damaged:
    """Return the error for a row that was copied twice although the table has it once; `detail` names its key."""
    return Damaged(
        f'the primary key\'s index of "{live.table}" points to one row twice, expected an undamaged table; '
        f"it was not replaced and is unchanged: {detail}",
        hint=_REINDEX,
    )


def miscounted(live: SourceTable, here: int, there: int) -> Damaged:
    """Return the error for a copy whose number of rows differs from the table's, if no single row shows why."""
    return Damaged(
        f'the copy of "{live.table}" has {there} rows, expected {here}; the table was not replaced and is unchanged',
        hint=_REINDEX,
    )


def assert_nothing_hidden(conn: Connection) -> None:
    """Raise RewriteBlocked if a setting of this session hides damaged rows or pages instead of failing."""
    hiding = [name for (name,) in conn.execute(_ON, [list(_HIDING)]).fetchall()]
    if hiding:
        raise RewriteBlocked(
            f"{', '.join(hiding)} = on for this role hides damaged rows, expected off, so no table is rewritten online",
            hint="ALTER SYSTEM, ALTER DATABASE or ALTER ROLE ... RESET it; see pg_settings and pg_db_role_setting",
        )


def twins(conn: Connection, live: SourceTable) -> Fault | None:
    """Return two rows with the same key, found by reading in physical order, None if there are none; slow."""
    query = sql.SQL(_TWINS).format(**places(live), texts=texts(live, "l"), of_l=listed(live.key_names, "l"))
    row = conn.execute(query).fetchone()
    return Fault(what=DOUBLED, key=tuple(row[0]), places=tuple(row[1])) if row else None


def texts(live: SourceTable, of: LiteralString) -> sql.Composed:
    """Return the SQL for the key of the table alias `of`, as an array of texts."""
    parts = [sql.SQL("{}.{}::text").format(sql.SQL(of), sql.Identifier(name)) for name in live.key_names]
    return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(parts))


def _where(found: Sequence[str]) -> str:
    if not found:
        return ""
    blocks = sorted({int(made[1]) for place in found if (made := _PAGE.fullmatch(place))})
    return f" in block{'s' * (len(blocks) > 1)} {_listed(map(str, blocks))}, ctid {_listed(found)}"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)


def _shortened(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")

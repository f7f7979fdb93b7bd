"""Table attributes that `LIKE` does not copy (owner, grants, storage options, comments), as SQL for another table.

PostgreSQL, CREATE TABLE: LIKE copies columns, checks, storage and the comments of columns, but none of these. An
attribute that is missing here by mistake shows in the comparison of both tables (`catalog_comparison`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from schema_migrator.postgres import queries

if TYPE_CHECKING:
    from psycopg import Cursor

    from schema_migrator.postgres.connection import Connection

_QUERY = queries.load(__file__, "table_attributes")
_LATE = 2
_REVOKE_ALL: LiteralString = """
SELECT DISTINCT format('REVOKE ALL ON TABLE %%s FROM %%s', %(to)s::text,
  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
FROM pg_catalog.pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) WHERE c.oid = %(to)s::regclass
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAttributes:
    """Statements that give another table the attributes: `early` before it has indexes (owner first), `late` after."""

    early: tuple[str, ...]
    late: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What stays of the table besides its primary key: all columns except `gone`, and these indexes and checks.

    What a step drops and creates again does not stay: in place, too, it would lose its comment and statistics target.
    """

    gone: tuple[str, ...]
    indexes: tuple[str, ...]
    checks: tuple[str, ...]


def ask(conn: Connection, oid: int, other: str, schema: str, kept: Kept) -> Cursor[Any]:
    """Query the attributes of the table `oid`, for the table `other` (a quoted name), whose indexes are in `schema`."""
    names = {"gone": list(kept.gone), "indexes": list(kept.indexes), "checks": list(kept.checks)}
    return conn.execute(_QUERY, {"oid": oid, "to": other, "schema": schema, **names})


def read(answer: Cursor[Any]) -> TableAttributes:
    """Return the attributes from the answer to `ask`."""
    rows = answer.fetchall()
    return TableAttributes(
        early=tuple(statement for turn, statement in rows if turn < _LATE),
        late=tuple(statement for turn, statement in rows if turn == _LATE),
    )


def apply(conn: Connection, attributes: TableAttributes, other: str) -> None:
    """Give a new table the attributes: set the owner, revoke all rights, then grant and set the rest."""
    owner, *rest = attributes.early
    conn.execute(owner.encode())
    for (statement,) in conn.execute(_REVOKE_ALL, {"to": other}).fetchall():
        conn.execute(statement.encode())
    for statement in rest:
        conn.execute(statement.encode())

"""Table attributes that `LIKE` does not copy (owner, grants, storage options, comments), as SQL for another table.

PostgreSQL, CREATE TABLE: LIKE copies columns, checks, storage and the comments of columns, but none of these. An
attribute that is missing here by mistake shows in the comparison of both tables (`catalog_comparison`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    from psycopg import Cursor

    from schema_migrator.postgres.connection import Connection

# Column options that begin with pg_ are PostgreSQL's own and cannot be set.
# Turns: 0 the owner, 1 what needs no indexes, 2 what needs them.
_QUERY: LiteralString = """
WITH t AS (SELECT * FROM pg_catalog.pg_class WHERE oid = %(oid)s),
a AS (
  SELECT a.attname, a.attacl, a.attoptions, a.attstattarget FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (%(gone)s)
), x AS (
  SELECT i.*, c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  WHERE i.indrelid = %(oid)s AND (i.indisprimary OR c.relname = ANY (%(indexes)s))
), k AS (
  SELECT c.* FROM pg_catalog.pg_constraint c
  WHERE c.conrelid = %(oid)s AND (c.contype IN ('p', 'n') OR c.conname = ANY (%(checks)s))
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute g
      WHERE g.attrelid = c.conrelid AND g.attnum = ANY (c.conkey) AND g.attname = ANY (%(gone)s))
), rights AS (
  SELECT '' AS columns, e.* FROM t, aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) e
  UNION ALL SELECT format(' (%%I)', a.attname), e.* FROM a, aclexplode(a.attacl) e
)
SELECT 0 AS turn, format('ALTER TABLE %%s OWNER TO %%I', %(to)s::text, pg_get_userbyid(relowner)) AS statement FROM t
UNION ALL
SELECT 1, format('ALTER TABLE %%s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', %(to)s::text)
UNION ALL
SELECT 1, format('GRANT %%s%%s ON TABLE %%s TO %%s%%s', privilege_type, columns, %(to)s::text,
  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM rights
UNION ALL
SELECT 1, format('ALTER TABLE %%s SET (%%s)', %(to)s::text,
  string_agg(format('%%s%%I = %%L', prefix, option_name, option_value), ', ' ORDER BY place))
FROM (
  SELECT '' AS prefix, o.* FROM t,
    pg_options_to_table(t.reloptions) WITH ORDINALITY o (option_name, option_value, place)
  UNION ALL SELECT 'toast.', o.* FROM t JOIN pg_catalog.pg_class s ON s.oid = t.reltoastrelid,
    pg_options_to_table(s.reloptions) WITH ORDINALITY o (option_name, option_value, place)
) options HAVING count(*) > 0
UNION ALL
SELECT 1, format('ALTER TABLE %%s ALTER COLUMN %%I SET STATISTICS %%s', %(to)s::text, attname, attstattarget)
FROM a WHERE attstattarget >= 0
UNION ALL
SELECT 1, format('ALTER TABLE %%s ALTER COLUMN %%I SET (%%I = %%L)', %(to)s::text, attname, option_name, option_value)
FROM a, pg_options_to_table(a.attoptions) WHERE left(option_name, 3) <> 'pg_'
UNION ALL
SELECT 1, format('COMMENT ON TABLE %%s IS %%L', %(to)s::text, obj_description(oid, 'pg_class'))
FROM t WHERE obj_description(oid, 'pg_class') IS NOT NULL
UNION ALL
SELECT 1, format('COMMENT ON TYPE %%s IS %%L', %(to)s::text, obj_description(reltype, 'pg_type'))
FROM t WHERE obj_description(reltype, 'pg_type') IS NOT NULL
UNION ALL
SELECT 2, format('COMMENT ON INDEX %%I.%%I IS %%L', %(schema)s::text, relname, obj_description(indexrelid, 'pg_class'))
FROM x WHERE obj_description(indexrelid, 'pg_class') IS NOT NULL
UNION ALL
SELECT CASE contype WHEN 'p' THEN 2 ELSE 1 END,
  format('COMMENT ON CONSTRAINT %%I ON %%s IS %%L', conname, %(to)s::text, obj_description(oid, 'pg_constraint'))
FROM k WHERE obj_description(oid, 'pg_constraint') IS NOT NULL
UNION ALL
SELECT 2, format('ALTER INDEX %%I.%%I ALTER COLUMN %%s SET STATISTICS %%s', %(schema)s::text, relname, a.attnum,
  a.attstattarget)
FROM x JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indexrelid AND a.attstattarget >= 0
UNION ALL
SELECT 2, format('ALTER TABLE %%s CLUSTER ON %%I', %(to)s::text, relname) FROM x WHERE indisclustered
UNION ALL
SELECT 2, format('ALTER TABLE %%s REPLICA IDENTITY %%s', %(to)s::text, CASE relreplident WHEN 'f' THEN 'FULL'
  WHEN 'n' THEN 'NOTHING' ELSE (SELECT 'USING INDEX ' || quote_ident(relname) FROM x WHERE indisreplident) END)
FROM t WHERE relreplident IN ('f', 'n') OR EXISTS (SELECT FROM x WHERE indisreplident)
ORDER BY 1, 2
"""
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

"""Finds the functions that a table's indexes, checks, computed columns and domains call, and the calling roles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Collection

    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Source

_CREATED = re.compile(r"\bCREATE\s+(?:OR\s+REPLACE\s+)?FUNCTION\s+(?:\w+\s*\.\s*)?(\w+)", re.IGNORECASE)
# PostgreSQL checks EXECUTE when an expression calls a function, but not when an operator class does. C functions, and
# bodies that were parsed when the function was created (PostgreSQL 14), look nothing up by search_path.
_CALLED: LiteralString = """
WITH part (what, class, id) AS (
  SELECT format('index "%%s"', c.relname), 'pg_catalog.pg_class'::regclass, c.oid
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  WHERE i.indrelid = %(table)s AND (i.indisprimary OR c.relname = ANY (%(indexes)s))
  UNION ALL SELECT format('check "%%s"', conname), 'pg_catalog.pg_constraint'::regclass, oid
  FROM pg_catalog.pg_constraint WHERE conrelid = %(table)s AND contype = 'c' AND conname = ANY (%(checks)s)
  UNION ALL SELECT format('column "%%s"', a.attname), 'pg_catalog.pg_attrdef'::regclass, d.oid
  FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  WHERE d.adrelid = %(table)s AND a.attgenerated <> '' AND a.attname <> ALL (%(gone)s)
  UNION ALL SELECT format('the type of column "%%s"', a.attname), 'pg_catalog.pg_constraint'::regclass, c.oid
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_constraint c ON c.contypid = a.atttypid
  WHERE a.attrelid = %(table)s AND NOT a.attisdropped AND a.attname <> ALL (%(gone)s)
), used AS (
  SELECT p.what, d.refclassid, d.refobjid FROM part p
  JOIN pg_catalog.pg_depend d ON d.classid = p.class AND d.objid = p.id
), called (what, id, expressed) AS (
  SELECT what, refobjid, true FROM used WHERE refclassid = 'pg_catalog.pg_proc'::regclass
  UNION SELECT u.what, o.oprcode, true FROM used u JOIN pg_catalog.pg_operator o ON o.oid = u.refobjid
  WHERE u.refclassid = 'pg_catalog.pg_operator'::regclass
  UNION SELECT u.what, s.amproc, false FROM used u JOIN pg_catalog.pg_opclass k ON k.oid = u.refobjid
  JOIN pg_catalog.pg_amproc s ON s.amprocfamily = k.opcfamily
  WHERE u.refclassid = 'pg_catalog.pg_opclass'::regclass
)
SELECT c.what, p.oid::regprocedure::text AS function, r.rolname::text AS role,
  NOT c.expressed OR has_function_privilege(r.oid, p.oid, 'EXECUTE') AS allowed,
  l.lanname IN ('internal', 'c') OR to_jsonb(p) ->> 'prosqlbody' IS NOT NULL
    OR (n.nspname = %(schema)s AND p.proname = ANY (%(vendors)s))
    OR EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search\\_path=%%') AS settled,
  o.rolname::text AS owner, r.rolsuper AND NOT o.rolsuper AND NOT p.prosecdef AND l.lanname <> 'c'
    AND NOT (n.nspname = %(schema)s AND p.proname = ANY (%(vendors)s)) AS endangered
FROM called c JOIN pg_catalog.pg_proc p ON p.oid = c.id JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
CROSS JOIN (SELECT oid, rolname, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user
  OR oid = (SELECT relowner FROM pg_catalog.pg_class WHERE oid = %(table)s)) r
WHERE n.nspname <> 'pg_catalog' ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function that a part of the table (`what`) calls, and one of the roles that call it during the copy.

    `allowed`: the role may execute it. `settled`: it does the same whatever search_path its caller has. `endangered`:
    the role is a superuser, but the function's owner, who decides what it does, is not. The vendor's functions are
    never `endangered`.
    """

    what: str
    function: str
    role: str
    allowed: bool
    settled: bool
    owner: str
    endangered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCalls:
    """The parts of a table (an oid) to examine: primary key, named indexes and checks, all columns except `gone`."""

    table: int
    schema: str
    indexes: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def look(conn: Connection, parts: TableCalls, vendors: Collection[str]) -> list[Call]:
    """Return the calls of a table's parts. Must run in a transaction. `vendors` are the files' functions."""
    named = {"indexes": list(parts.indexes), "checks": list(parts.checks), "gone": list(parts.gone)}
    values = {"table": parts.table, "schema": parts.schema, "vendors": sorted(vendors), **named}
    with conn.cursor(row_factory=class_row(Call)) as cursor:
        return cursor.execute(_CALLED, values).fetchall()


def created(source: Source) -> frozenset[str]:
    """Return the names of the functions that a store's files create."""
    texts = (statement.text for step in source.steps for statement in step.statements)
    return frozenset(name.lower() for text in texts for name in _CREATED.findall(text))

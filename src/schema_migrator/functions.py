"""Functions that a table's indexes, checks and computed columns call, and that the copy calls for every row too.

Our transactions run with a search_path of their own and in our role, so a function that another role or another
search_path is needed for would end the copy, or give it other values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg.rows import class_row

from schema_migrator import database
from schema_migrator.errors import RewriteBlocked

if TYPE_CHECKING:
    from schema_migrator.plan import Online, Plan
    from schema_migrator.shadow import Live
    from schema_migrator.source import Source
    from schema_migrator.work import Work

_CREATED = re.compile(r"\bCREATE\s+(?:OR\s+REPLACE\s+)?FUNCTION\s+(?:\w+\s*\.\s*)?(\w+)", re.IGNORECASE)
# PostgreSQL asks for EXECUTE where an expression calls a function, not where an operator class does. C functions and
# bodies that were parsed when they were created (PostgreSQL 14) look nothing up.
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
    OR EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search\\_path=%%') AS settled
FROM called c JOIN pg_catalog.pg_proc p ON p.oid = c.id JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
CROSS JOIN (SELECT oid, rolname FROM pg_catalog.pg_roles WHERE rolname = current_user
  OR oid = (SELECT relowner FROM pg_catalog.pg_class WHERE oid = %(table)s)) r
WHERE n.nspname <> 'pg_catalog' ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function that a part of the table (`what`) calls, and one of the roles that call it for the copy.

    `allowed`: the role may call it; `settled`: it does the same whatever search_path its caller has.
    """

    what: str
    function: str
    role: str
    allowed: bool
    settled: bool


def check(work: Work, plan: Plan, online: Online, live: Live) -> None:
    """Raise RewriteBlocked where the copy could not call a function as the live table does; nothing was changed."""
    assert online.shape is not None  # noqa: S101 - a plan has no online steps without
    values = {
        "table": live.oid,
        "schema": live.schema,
        "gone": list(online.shape.gone),
        "indexes": [name for name, _ in online.shape.indexes],
        "checks": [name for name, _ in online.shape.checks],
        "vendors": sorted(created(work.release.source(plan.store))),
    }
    found = problems(database.ask(work.conn, _CALLED, values, row=class_row(Call)))
    if found:
        raise RewriteBlocked(
            f'"{live.table}" cannot be rewritten online as it is, and nothing was changed',
            hint="what stands against it, each with its remedy:",
            detail="\n".join(f"  - {what}\n    {remedy}" for what, remedy in found),
        )


def created(source: Source) -> frozenset[str]:
    """Return the names of the functions that a store's files create."""
    texts = (statement.text for step in source.steps for statement in step.statements)
    return frozenset(name.lower() for text in texts for name in _CREATED.findall(text))


def problems(calls: Sequence[Call]) -> tuple[tuple[str, str], ...]:
    """Return what stands against the copy, each with its remedy."""
    denied = {
        f'{one.what} calls {one.function}, which the role "{one.role}" may not execute': (
            f'as its owner run: GRANT EXECUTE ON FUNCTION {one.function} TO "{one.role}";'
        )
        for one in calls
        if not one.allowed
    }
    unsettled = {
        f"{one.what} calls {one.function}, which finds other objects under another search_path": (
            f"as its owner run: ALTER FUNCTION {one.function} SET search_path = <the schemas that its body needs>;"
        )
        for one in calls
        if not one.settled
    }
    return tuple({**denied, **unsettled}.items())

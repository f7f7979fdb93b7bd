"""What an online rewrite has left is removed: what is ours, thing by thing, and nothing that is somebody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator.catalog.leftovers import ONLINE, ROWS, TRIGGER
from schema_migrator.errors import NotOurs

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.postgres.connection import Connection

_OWNED: LiteralString = """
owned AS (
  SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
  UNION SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.oid = %(oid)s
  UNION SELECT c.relowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname IN (%(table)s, 'schema_version')
)
"""
_HELD: LiteralString = f"""
WITH {_OWNED}
SELECT 'TABLE', c.relname::text FROM pg_catalog.pg_class c
WHERE c.relnamespace = %(oid)s AND c.relkind = 'r' AND c.relname = ANY (%(ours)s)
  AND c.relowner IN (SELECT oid FROM owned)
UNION ALL SELECT 'FUNCTION', p.proname::text FROM pg_catalog.pg_proc p
WHERE p.pronamespace = %(oid)s AND p.proname = 'log' AND p.pronargs = 0 AND p.proowner IN (SELECT oid FROM owned)
ORDER BY 1 DESC, 2
"""  # noqa: S608 - constants
_TRIGGERS: LiteralString = f"""
WITH {_OWNED}
SELECT n.nspname::text, c.relname::text, g.tgname::text,
  g.tgname = 'schema_migrator_log' AND (n.nspname = %(schema)s OR c.oid = %(live)s)
    AND c.relowner IN (SELECT oid FROM owned)
FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
WHERE p.pronamespace = %(oid)s ORDER BY 1, 2, 3
"""  # noqa: S608 - constants
_FOREIGN: LiteralString = """
SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, 0) || coalesce(
  ' of "' || pg_catalog.pg_get_userbyid(coalesce(c.relowner, p.proowner)) || '"', '')
FROM pg_catalog.pg_depend d
LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
LEFT JOIN pg_catalog.pg_proc p ON d.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.objid
WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = %s ORDER BY 1
"""


def remove(conn: Connection, found: Leftover) -> None:
    """Remove a schema of ours with all that is ours in it, in a transaction; never with CASCADE.

    Raises NotOurs where somebody else has put something there, or uses what is there.
    """
    known = [found.name] if found.retired else [ROWS, "log", "batches"]
    number = found.name.removeprefix(ONLINE)  # the table's, which may stand in another schema by now
    live = int(number) if number.isdecimal() else 0
    place = {"oid": found.oid, "schema": found.schema, "table": found.table, "live": live, "ours": known}
    if not found.retired:
        _remove_trigger(conn, found, place)
    for kind, name in conn.execute(_HELD, place).fetchall():
        drop = sql.SQL("DROP TABLE {}" if kind == "TABLE" else "DROP FUNCTION {}()")
        conn.execute(drop.format(sql.Identifier(found.name, name)))
    foreign = ", ".join(name for (name,) in conn.execute(_FOREIGN, [found.oid]).fetchall())
    if foreign:
        raise NotOurs(
            f'the schema "{found.name}", which an online rewrite has left, holds what is not ours: {foreign}',
            hint="move that elsewhere, then run this again",
        )
    conn.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(found.name)))


def _remove_trigger(conn: Connection, found: Leftover, place: dict[str, object]) -> None:
    triggers = conn.execute(_TRIGGERS, place).fetchall()
    foreign = ", ".join(f'"{name}" on {schema}.{table}' for schema, table, name, ours in triggers if not ours)
    if foreign:
        raise NotOurs(
            f'a trigger that is not ours calls a function in the schema "{found.name}" of an online rewrite: {foreign}',
            hint="look whether that trigger may go, drop it, then run this again",
        )
    for schema, table, _, _ in triggers:
        drop = sql.SQL("DROP TRIGGER {} ON {}")
        conn.execute(drop.format(sql.Identifier(TRIGGER), sql.Identifier(schema, table)))

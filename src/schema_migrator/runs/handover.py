"""Handover: objects that the vendor's statements create get the owner of the store's other tables, the heir."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

_THINGS: LiteralString = """
SELECT 'pg_class:' || c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s
UNION ALL SELECT 'pg_proc:' || p.oid FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %(schema)s
"""
# A column's sequence changes owner with its table, and a member of an extension keeps its owner. An object that an
# event trigger has already given to another role stays with that role.
_GIVE: LiteralString = """
WITH things AS (
  SELECT 'pg_class' AS catalog, c.oid, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
      WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS kind,
    pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name, c.relowner AS owner
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'S', 'v', 'm')
  UNION ALL
  SELECT 'pg_proc', p.oid, 'ROUTINE',
    pg_catalog.format('%%I.%%I(%%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
    p.proowner
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = %(schema)s AND p.prokind <> 'a'
)
SELECT pg_catalog.format('ALTER %%s %%s OWNER TO %%I', t.kind, t.name, %(heir)s::text) FROM things t
WHERE t.catalog || ':' || t.oid <> ALL (%(before)s)
  AND t.owner = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = ('pg_catalog.' || t.catalog)::regclass AND d.objid = t.oid AND (d.deptype = 'e'
      OR (t.kind = 'SEQUENCE' AND d.deptype IN ('a', 'i')
        AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0)))
ORDER BY t.kind, t.name
"""


def things(conn: Connection, schema: str) -> list[str]:
    """Return the objects in a schema as texts of catalog and oid, for `give`."""
    return [name for (name,) in conn.execute(_THINGS, {"schema": schema}).fetchall()]


def give(conn: Connection, schema: str, heir: str, before: list[str]) -> None:
    """Give the heir what our role has created in a schema since `things` returned `before`; in an open transaction."""
    values = {"schema": schema, "heir": heir, "before": before}
    for (statement,) in conn.execute(_GIVE, values).fetchall():
        conn.execute(statement.encode())


@contextmanager
def handed_over(conn: Connection, schema: str, heir: str) -> Iterator[None]:
    """Give the heir, unless it is empty, what the block creates in a schema; in an open transaction."""
    before = things(conn, schema) if heir else []
    yield
    if heir:
        give(conn, schema, heir, before)

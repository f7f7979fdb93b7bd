"""Handover: objects that the vendor's statements create get the owner of the store's other tables, the heir."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString

from schema_migrator.postgres import queries

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

_THINGS: LiteralString = """
SELECT 'pg_class:' || c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s
UNION ALL SELECT 'pg_proc:' || p.oid FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %(schema)s
UNION ALL SELECT 'pg_type:' || t.oid FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = %(schema)s
"""
_GIVE = queries.load(__file__, "give_to_heir")


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

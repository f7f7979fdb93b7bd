"""The sizes of a store's tables, and what blocks an online rewrite of each. Their structure is in a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.catalog import blockers
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.postgres.connection import Connection

_SIZES = """
SELECT c.relname::text, pg_catalog.pg_total_relation_size(c.oid) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table: its size in bytes, indexes and TOAST included, and what blocks its online rewrite."""

    size: int
    blockers: tuple[str, ...] = ()


def read(conn: Connection, schema: str) -> dict[str, Table]:
    """Return the tables of a schema by name. Raises LockNotAvailable if another session keeps one locked.

    A property of tables that the server has and this program does not know blocks the online rewrite of every table.
    """
    with transactions.look(conn, schema):
        sizes = conn.execute(_SIZES, [schema]).fetchall()
        reasons, unknown = rewrite_blockers(conn, schema), blockers.unknown(conn)
    return {name: Table(size=size, blockers=(*reasons.get(name, ()), *unknown)) for name, size in sizes}


def rewrite_blockers(
    conn: Connection, schema: str | None = None, oids: Sequence[int] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the blockers of an online rewrite by table name, for the tables of a schema or with the given oids."""
    return blockers.find(conn, schema, oids)

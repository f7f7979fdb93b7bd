"""What is known of a store's tables beside their structure: their sizes, and what forbids an online rewrite."""

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
    """A table: its bytes with its indexes, and what keeps it from being rewritten online."""

    size: int
    blockers: tuple[str, ...] = ()


def read(conn: Connection, schema: str) -> dict[str, Table]:
    """Return the tables of a schema by name. One that somebody keeps locked raises LockNotAvailable.

    What this server knows of tables and this program does not keeps every one of them from being rewritten online.
    """
    with transactions.look(conn, schema):
        sizes = conn.execute(_SIZES, [schema]).fetchall()
        reasons, unknown = rewrite_blockers(conn, schema), blockers.unknown(conn)
    return {name: Table(size=size, blockers=(*reasons.get(name, ()), *unknown)) for name, size in sizes}


def rewrite_blockers(
    conn: Connection, schema: str | None = None, oids: Sequence[int] = ()
) -> dict[str, tuple[str, ...]]:
    """Return what keeps tables of a schema, or tables of different names, from being rewritten online, by those."""
    return blockers.find(conn, schema, oids)

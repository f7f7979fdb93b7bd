"""Finds the functions that a table's indexes, checks, computed columns and domains call, and the calling roles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from schema_migrator.postgres import queries

if TYPE_CHECKING:
    from collections.abc import Collection

    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Source

_CREATED = re.compile(r"\bCREATE\s+(?:OR\s+REPLACE\s+)?FUNCTION\s+(?:\w+\s*\.\s*)?(\w+)", re.IGNORECASE)
_CALLED = queries.load(__file__, "called_functions")


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

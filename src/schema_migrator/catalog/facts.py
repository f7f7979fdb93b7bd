"""Reads facts about a database and about the schema with the store's tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import class_row

from schema_migrator.catalog import plain_rows
from schema_migrator.errors import UnknownState
from schema_migrator.postgres import queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Source

_BESIDE = re.compile(r"_cc(new|old)\d*$")  # PostgreSQL chooses these names, see REINDEX
# Finds the first schema in the role's own search_path. The function is called with its schema, so that the statement
# itself does not use that path.
_ROLES_SCHEMA = (
    "SET LOCAL search_path TO DEFAULT",
    "SELECT pg_catalog.set_config('schema_migrator.schema', pg_catalog.current_schema(), true)",
    "SET LOCAL search_path = pg_catalog, pg_temp",
)
_FACTS = queries.load(__file__, "facts")
_COLUMNS = {
    "db_name": (str, "a text"),
    "curr_version": (str, "a text"),
    "min_compatible_version": (str, "a text"),
    "version_partition": (int, "an integer"),
}
"""What is read of the version table, with the type of its values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts about a database and about the one schema that holds the tables.

    `server` is server_version_num. `identity` is equal for all connections to the same database of the same server.
    `foreign_tables` are tables of the store that belong to roles whose rights ours lacks. `elsewhere` are other schemas
    that seem to contain the store. `invalid` are indexes of the release's files that an interrupted CREATE INDEX or
    REINDEX CONCURRENTLY left; the additional index of a running REINDEX, which locks the table, is not among them.
    `keyless` are tables with a name of the store's but without a primary key. `extended`: the schema has types of an
    extension, or operator classes that an index must name.
    """

    schema: str | None
    schema_exists: bool
    server: int
    read_only: bool
    pid: int
    identity: str
    role: str
    may_create_schema: bool
    may_create_table: bool
    schema_owner: str
    btree_gin: bool
    tables: list[str]
    foreign_tables: list[str]
    elsewhere: list[str]
    invalid: list[str] = field(default_factory=list)
    keyless: list[str] = field(default_factory=list)
    extended: bool = False

    @property
    def beside(self) -> str:
        """The schema in which a rehearsal must find what an extension has put there; empty if there is nothing."""
        return (self.schema or "") if self.extended else ""

    @property
    def may_rehearse(self) -> bool:
        """Whether our role can create a scratch schema in this database."""
        return self.may_create_schema and not self.read_only

    @property
    def versioned(self) -> bool:
        """Whether the vendor's version table exists."""
        return "schema_version" in self.tables


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A row of schema_version, with the texts as they are recorded."""

    db_name: str
    curr_version: str | None
    min_compatible_version: str | None


def read_facts(conn: Connection, source: Source, path: Sequence[str]) -> Facts:
    """Return the facts about a store's schema. Must run in a transaction.

    The schema is the first one in `path` that exists, as PostgreSQL chooses it. Without a path it is the first one in
    the role's own search_path.
    """
    names = {
        "path": list(path),
        "wanted": next((name for name in path if name != "$user"), None),
        "known": sorted(source.tables),
        "indexes": sorted(source.indexes),
    }
    for statement in _ROLES_SCHEMA:
        conn.execute(statement)
    with conn.cursor(row_factory=class_row(Facts)) as cursor:
        facts = cursor.execute(_FACTS, names).fetchone()
    assert facts is not None  # noqa: S101 - current_database() always has its row
    return facts


def read_rows(conn: Connection, facts: Facts, *, lock: bool) -> tuple[VersionRow, ...]:
    """Return the rows of the version table. With `lock` they stay locked until the transaction ends.

    Raises UnknownState if the table is not Temporal's.
    """
    try:
        rows = plain_rows.read(conn, facts.schema or "", "schema_version", tuple(_COLUMNS), lock=lock)
    except psycopg.errors.UndefinedColumn as error:  # Flyway's table was called schema_version too
        raise UnknownState(
            f"the table schema_version is not Temporal's: {error.diag.message_primary}",
            hint="give Temporal a database of its own, or a schema by search_path in SQL_CONNECT_ATTRIBUTES",
        ) from error
    for row in rows:
        _assert_types(row)
    return tuple(
        VersionRow(db_name=name, curr_version=version, min_compatible_version=lowest)
        for name, version, lowest, partition in rows
        if partition == 0
    )


def _assert_types(row: tuple[Any, ...]) -> None:
    """Raise UnknownState if a column has another type: a row that cannot be read must not count as absent."""
    for (column, (kind, word)), value in zip(_COLUMNS.items(), row, strict=True):
        if value is not None and type(value) is not kind:
            raise UnknownState(
                f'the column schema_version.{column} has the value "{value}" of another type than Temporal\'s,'
                f" expected {word}",
                hint="find out who changed the column's type, and change it back",
            )


def leftover_indexes(invalid: Iterable[str]) -> tuple[str, ...]:
    """Return the names that PostgreSQL gave to the second index of a REINDEX CONCURRENTLY."""
    return tuple(name for name in invalid if _BESIDE.search(name))

"""The live table that an online rewrite replaces: its schema, primary key, attributes and fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator.catalog import snapshot
from schema_migrator.catalog.leftovers import ONLINE, RETIRED, ROWS
from schema_migrator.catalog.snapshot import Key, table_of
from schema_migrator.online import catalog_comparison, table_attributes
from schema_migrator.online.table_attributes import Kept
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema_migrator.online.catalog_comparison import Picture
    from schema_migrator.online.table_attributes import TableAttributes
    from schema_migrator.planning.rewrite_span import Named, TargetShape
    from schema_migrator.postgres.connection import Connection


_LOCATE = """
SELECT c.oid, c.relfilenode FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
_KEY = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place
"""
_PRIMARY = """
SELECT c.relname::text, pg_get_indexdef(c.oid, 0, true)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s AND i.indisprimary
"""
_STAYING = """
SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = '' OR %s)
  AND a.attname <> ALL (%s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """The live table: its primary key as names and types, its attributes, its catalog snapshot and its fingerprint.

    The fingerprint changes with the table's file (TRUNCATE), its structure, its attributes, and its target shape.
    """

    schema: str
    table: str
    oid: int
    key: tuple[Named, ...]
    attributes: TableAttributes
    picture: Picture
    fingerprint: str

    @property
    def ours(self) -> str:
        """Name of the schema that contains the shadow table, the change log and the list of batches."""
        return f"{ONLINE}{self.oid}"

    @property
    def retired(self) -> str:
        """Name of the schema that contains the old table after the cutover."""
        return f"{RETIRED}{self.oid}"

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the primary key's columns."""
        return tuple(name for name, _ in self.key)


def locate(conn: Connection, schema: str, table: str) -> tuple[int, int] | None:
    """Return the oid of a table and the number of its file (relfilenode); None if the table is gone."""
    row = conn.execute(_LOCATE, [schema, table]).fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def look(conn: Connection, schema: str, shape: TargetShape) -> SourceTable | None:
    """Return the live table, None if it is gone; in an open transaction."""
    located = locate(conn, schema, shape.table)
    if located is None:
        return None
    oid, file = located
    key = tuple((name, kind) for name, kind in conn.execute(_KEY, [oid]).fetchall())
    ours = f"{ONLINE}{oid}"
    answer = table_attributes.ask(conn, oid, qualified(conn, ours, ROWS), ours, _kept(shape))
    objects, picture = snapshot.take(conn, schema).objects, catalog_comparison.take(conn, oid)
    attributes = table_attributes.read(answer)
    own = sorted((key, text) for key, text in objects.items() if table_of(key) == shape.table)
    state = repr(
        (oid, file, key, own, attributes, sorted(picture.items()), shape.added, shape.gone, shape.indexes, shape.checks)
    )
    fingerprint = hashlib.sha256(state.encode()).hexdigest()
    return SourceTable(
        schema=schema,
        table=shape.table,
        oid=oid,
        key=key,
        attributes=attributes,
        picture=picture,
        fingerprint=fingerprint,
    )


def _kept(shape: TargetShape) -> Kept:
    def names(kind: str, found: Iterable[Named]) -> tuple[str, ...]:
        return tuple(name for name, _ in found if Key(kind, shape.table, name) not in shape.touched)

    return Kept(gone=shape.gone, indexes=names("index", shape.indexes), checks=names("constraint", shape.checks))


def column_list(names: Iterable[str], of: LiteralString | None = None) -> sql.Composed:
    """Return a list of columns for a statement, each with the table alias `of` if given."""
    plain = map(sql.Identifier, names)
    return sql.SQL(", ").join(plain if of is None else (sql.SQL("{}.{}").format(sql.SQL(of), name) for name in plain))


def identifiers(live: SourceTable) -> dict[str, sql.Composable]:
    """Return the identifiers for a statement: our schema, the shadow table, the live table, the key's columns."""
    return {
        "ours": sql.Identifier(live.ours),
        "shadow": sql.Identifier(live.ours, ROWS),
        "live": sql.Identifier(live.schema, live.table),
        "key": column_list(live.key_names),
    }


def columns(conn: Connection, live: SourceTable, shape: TargetShape, *, computed: bool) -> tuple[str, ...]:
    """Return the names of the columns that the rewrite keeps; generated ones only if `computed`."""
    added = [name for name, _ in shape.added]
    ((found,),) = transactions.ask(conn, _STAYING, [qualified(conn, live.ours, ROWS), computed, added])
    return tuple(found)


def primary(conn: Connection, live: SourceTable) -> Named:
    """Return the name and the definition of the primary key's index."""
    ((name, definition),) = transactions.ask(conn, _PRIMARY, [live.oid])
    return name, snapshot.local(definition, live.schema)


def qualified(conn: Connection, schema: str, name: str) -> str:
    """Return the quoted name of an object, with its schema."""
    return sql.Identifier(schema, name).as_string(conn)

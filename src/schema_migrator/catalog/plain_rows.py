"""Reads rows of tables that other roles own.

A column can have a type of its owner's with implicit casts. An operator, a function or a cast on that column would run
the owner's code as our role, which may be a superuser. The queries here contain none: the caller filters the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.postgres.connection import Connection

_IS_TABLE = """
SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
"""


def read(
    conn: Connection, schema: str, table: str, columns: Sequence[str], *, lock: bool = False
) -> list[tuple[Any, ...]]:
    """Return columns of all rows of a table, in a transaction. With `lock` the rows stay locked until it ends.

    Raises psycopg's UndefinedColumn if the table lacks a column.
    """
    query = sql.SQL("SELECT {} FROM {} {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(schema, table),
        sql.SQL("FOR UPDATE" if lock else ""),
    )
    return conn.execute(query).fetchall()


def read_if_table(conn: Connection, schema: str, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]] | None:
    """Return what `read` returns, None if there is no such table: a view would run its owner's functions.

    The lock keeps a table from being replaced by a view before it is read.
    """
    if conn.execute(_IS_TABLE, [schema, table]).fetchone() is None:
        return None
    conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(schema, table)))
    if conn.execute(_IS_TABLE, [schema, table]).fetchone() is None:
        return None
    return read(conn, schema, table, columns)

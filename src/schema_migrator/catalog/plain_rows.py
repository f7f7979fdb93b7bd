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

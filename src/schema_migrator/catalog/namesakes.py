"""Hides tables of the same name in other schemas from statements that look up a table by its name alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.statements import Statement

_LOOKS_UP = re.compile(r"(?<![.\w])pg_class\b", re.IGNORECASE)
_OTHERS = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relname = ANY (%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> %s)
"""
# PostgreSQL searches temporary objects before pg_catalog, unless search_path says otherwise (see search_path).
_VIEW = """
CREATE TEMPORARY VIEW pg_class AS SELECT * FROM pg_catalog.pg_class c
WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = {})
"""


def looks_up(statements: Iterable[Statement]) -> bool:
    """Return whether any of the statements looks up tables in pg_class."""
    return any(_LOOKS_UP.search(statement.text) for statement in statements)


@contextmanager
def shielded(
    conn: Connection, schema: str, tables: Collection[str], statements: Collection[Statement]
) -> Iterator[None]:
    """Let the block's statements, in an open transaction, see only the tables of their own schema in pg_class.

    It does nothing unless another schema also has a table with one of the names. It needs the privilege TEMPORARY on
    the database.
    """
    row = conn.execute(_OTHERS, [sorted(tables), schema]).fetchone() if looks_up(statements) else None
    if row is None or not row[0]:
        yield
        return
    conn.execute(sql.SQL(_VIEW).format(sql.Literal(schema)))
    yield
    conn.execute("DROP VIEW pg_temp.pg_class")

"""Keeps a rehearsal's statements from finding the live schema when they look something up by its name.

Views in the scratch schema stand for the catalogs. search_path finds them first; a statement that names
information_schema is sent with the views' names.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schema_migrator.releases.statements import Statement

_RELATIONS = "(SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relnamespace = {schema}::regnamespace)"
_CATALOGS = {
    "pg_class": "relnamespace = {schema}::regnamespace",
    "pg_constraint": "connamespace = {schema}::regnamespace",
    "pg_index": f"indrelid IN {_RELATIONS}",
    "pg_trigger": f"tgrelid IN {_RELATIONS}",
    "pg_proc": "pronamespace IN ({schema}::regnamespace, 'pg_catalog'::regnamespace)",
    "pg_type": "typnamespace IN ({schema}::regnamespace, 'pg_catalog'::regnamespace)",
    "pg_tables": "schemaname = {schema}",
    "pg_indexes": "schemaname = {schema}",
    "pg_views": "schemaname = {schema}",
}
_INFORMATION = {
    "tables": "table_schema",
    "columns": "table_schema",
    "views": "table_schema",
    "table_constraints": "table_schema",
    "key_column_usage": "table_schema",
    "constraint_column_usage": "table_schema",
    "check_constraints": "constraint_schema",
    "referential_constraints": "constraint_schema",
    "triggers": "trigger_schema",
    "routines": "routine_schema",
    "sequences": "sequence_schema",
}
_NAMED = re.compile(rf"(?<![.\w])information_schema\s*\.\s*(?P<view>{'|'.join(_INFORMATION)})\b", re.IGNORECASE)


def views(schema: str, statements: Iterable[Statement] = ()) -> Iterator[sql.Composed]:
    """Yield the statements that create the views that the statements name; without statements, those of pg_catalog."""
    text = "\n".join(statement.text for statement in statements)
    for catalog, condition in _CATALOGS.items():
        if not text or re.search(rf"\b{catalog}\b", text, re.IGNORECASE):
            yield _view(schema, catalog, f"pg_catalog.{catalog}", condition)
    named = {found["view"].lower() for found in _NAMED.finditer(text)}
    for view in sorted(named):
        yield _view(schema, _shadow(view), f"information_schema.{view}", f"{_INFORMATION[view]} = {{schema}}")


def redirected(statement: Statement) -> Statement:
    """Return a statement that finds the views in place of information_schema."""
    return replace(statement, text=_NAMED.sub(lambda found: _shadow(found["view"].lower()), statement.text))


def _shadow(view: str) -> str:
    return f"pg_information_schema_{view}"


def _view(schema: str, name: str, catalog: str, condition: str) -> sql.Composed:
    query = f"CREATE VIEW {{place}} AS SELECT * FROM {catalog} WHERE {condition}"  # noqa: S608 - constants
    return sql.SQL(query).format(place=sql.Identifier(schema, name), schema=sql.Literal(schema))

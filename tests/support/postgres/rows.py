"""Rows for every table of a store, whatever its version, and what is in the tables."""

from psycopg import sql

from support.postgres.engine import Connection

RECORDS = ("schema_version", "schema_update_history", "namespace_metadata")
TABLES = """
SELECT relname FROM pg_catalog.pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' ORDER BY 1
"""
COLUMNS = """
SELECT column_name, udt_name, column_default FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position
"""
ROWS = """
SELECT CASE WHEN length(line) < 4000 THEN line ELSE md5(line) END FROM (SELECT to_jsonb(t)::text AS line FROM {} t) l
ORDER BY 1
"""
ATTRIBUTES = """'{"BuildIds": ["a", "b"], "Keyword01": "k", "Int01": 7, "Bool01": true, "TemporalKeyword01": "t",
  "TemporalChangeVersion": ["c"], "Text01": "some words"}'"""
VALUES = {
    "int2": "n",
    "int4": "n",
    "int8": "n",
    "numeric": "n",
    "bool": "n % 2 = 0",
    "bpchar": "'c' || n",
    "varchar": "'v' || n",
    "text": "'t' || n",
    "bytea": "convert_to('b' || n, 'UTF8')",
    "timestamp": "timestamp '2025-01-01' + n * interval '1 hour'",
    "jsonb": ATTRIBUTES,
}


def tables(connection: Connection) -> list[str]:
    """Return the names of all tables but those of the version and of the seed row."""
    return [name for (name,) in connection.execute(TABLES).fetchall() if name not in RECORDS]


def fill(connection: Connection, count: int = 20) -> None:
    """Insert rows into every table, and count the seed row up, as a cluster does."""
    for table in tables(connection):
        fill_table(connection, table, count)
    if connection.execute("SELECT to_regclass('namespace_metadata')").fetchone() != (None,):
        connection.execute("UPDATE namespace_metadata SET notification_version = notification_version + 6")


def fill_table(connection: Connection, table: str, count: int) -> None:
    """Insert rows with a value in every column; a table that is to have one row gets one."""
    columns = connection.execute(COLUMNS, [table]).fetchall()
    only = any(name == "id" and default == "0" for name, _, default in columns)
    values = {name: "0" if only and name == "id" else VALUES[kind] for name, kind, _ in columns}
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM generate_series(1, {}) n").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ".join(values.values())),  # type: ignore[arg-type]  # constants of this module
            1 if only else count,
        )
    )


def contents(connection: Connection) -> dict[str, list[str]]:
    """Return all rows of all tables, as JSON whose keys are sorted; of long ones the md5."""
    return {
        table: [row for (row,) in connection.execute(sql.SQL(ROWS).format(sql.Identifier(table))).fetchall()]
        for table in tables(connection)
    }

"""All that a database holds, to be compared with itself: structure, rights and rows, in some hundredths of a second.

It is closer than a dump: whatever changes a row of a catalog is seen, also where pg_dump has no word for it. Two
databases cannot be compared by it, for the oids differ.
"""

from collections.abc import Mapping

from psycopg import sql

from support.postgres.engine import Connection

FIRST = 16384
"""The first oid that is a user's; what is PostgreSQL's own is not looked at."""
CATALOGS = {
    "pg_attrdef": "oid",
    "pg_attribute": "attrelid",
    "pg_cast": "oid",
    "pg_class": "oid",
    "pg_collation": "oid",
    "pg_constraint": "oid",
    "pg_conversion": "oid",
    "pg_default_acl": "oid",
    "pg_depend": "objid",
    "pg_description": "objoid",
    "pg_enum": "oid",
    "pg_event_trigger": "oid",
    "pg_extension": "oid",
    "pg_foreign_table": "ftrelid",
    "pg_index": "indexrelid",
    "pg_inherits": "inhrelid",
    "pg_largeobject_metadata": "oid",
    "pg_namespace": "oid",
    "pg_opclass": "oid",
    "pg_operator": "oid",
    "pg_policy": "oid",
    "pg_proc": "oid",
    "pg_publication": "oid",
    "pg_publication_rel": "oid",
    "pg_rewrite": "oid",
    "pg_seclabel": "objoid",
    "pg_sequence": "seqrelid",
    "pg_statistic_ext": "oid",
    "pg_trigger": "oid",
    "pg_type": "oid",
}
"""The catalogs of one database, each with the column that tells whose a row is."""
PUBLIC = "SELECT to_jsonb(n)::text FROM pg_namespace n WHERE nspname = 'public'"
# What VACUUM, ANALYZE and an index build note of a table's size is no change, nor that it once had a trigger.
NOTES = (
    *("relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid", "relminmxid"),
    *("relhasindex", "relhasrules", "relhassubclass", "relhastriggers"),
)
ENTRIES = """
SELECT (to_jsonb(t) - {notes}::text[])::text FROM pg_catalog.{catalog} t WHERE {whose} >= {first} ORDER BY 1
"""
TABLES = """
SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'S') AND c.oid >= {first} AND n.nspname !~ '^pg_' AND c.relispopulated ORDER BY 1, 2
"""
ROWS = "SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM {} t"
VALUE = "SELECT last_value, is_called FROM {}"

Fingerprint = Mapping[str, object]
"""The rows of each catalog, and of each table how many rows it has and their md5."""


def structure(connection: Connection) -> Fingerprint:
    """Return all objects and rights; the superuser's connection."""
    found: dict[str, object] = {"public": connection.execute(PUBLIC).fetchall()}
    with connection.pipeline():
        cursors = {name: connection.execute(_entries(name, whose)) for name, whose in CATALOGS.items()}
        found |= {name: cursor.fetchall() for name, cursor in cursors.items()}
    return found


def rows(connection: Connection, *but: str) -> Fingerprint:
    """Return what the tables hold, but some; the superuser's connection."""
    connection.execute("SET row_security = off")
    tables = connection.execute(sql.SQL(TABLES).format(first=sql.Literal(FIRST))).fetchall()
    return {
        f"{schema}.{name}": connection.execute(
            sql.SQL(VALUE if kind == "S" else ROWS).format(sql.Identifier(schema, name))
        ).fetchall()
        for schema, name, kind in tables
        if name not in but
    }


def whole(connection: Connection) -> Fingerprint:
    """Return all of it; the superuser's connection."""
    return {**structure(connection), **rows(connection)}


def _entries(catalog: str, whose: str) -> sql.Composed:
    return sql.SQL(ENTRIES).format(
        notes=sql.Literal(list(NOTES)),
        catalog=sql.Identifier(catalog),
        whose=sql.Identifier(whose),
        first=sql.Literal(FIRST),
    )

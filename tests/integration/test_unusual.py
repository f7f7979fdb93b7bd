"""Databases as people have them: awkward names, settings of their own, and much beside Temporal's tables."""

from typing import LiteralString

import pytest
from psycopg import sql

from schema_migrator.errors import PreflightFailed
from support.postgres.databases import Databases
from support.program.store_driver import Site, site

LOGGING_DDL = (
    "CREATE SCHEMA audit",
    "CREATE TABLE audit.log (tag text)",
    "GRANT USAGE ON SCHEMA audit TO public",
    "GRANT INSERT ON audit.log TO public",
    (
        "CREATE FUNCTION audit.note() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$ BEGIN INSERT INTO audit.log VALUES (tg_tag); END $$"
    ),
    "CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION audit.note()",
)
SETTINGS: tuple[LiteralString, ...] = (
    "default_transaction_isolation = serializable",
    "default_transaction_deferrable = on",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "datestyle = 'SQL, DMY'",
    "timezone = 'Asia/Kolkata'",
    "bytea_output = escape",
    "check_function_bodies = off",
    "statement_timeout = '5s'",
    "lock_timeout = '1s'",
    "client_min_messages = debug1",
    'search_path = nonexistent, "$user", public',
)


def install_and_upgrade(store: Site, extras: int | None = 0) -> None:
    """Install 1.29.1, upgrade to 1.32.2, and verify."""
    store.migrate(TEMPORAL_VERSION="1.29.1")
    done = store.migrate()
    assert done.verdict is not None
    assert done.verdict.equal, done.verdict.difference
    assert extras is None or len(done.verdict.difference.extra) == extras
    assert store.status().up_to_date


def created(databases: Databases, store: str, name: str) -> Site:
    """Create a database of the test's owner with that name and these settings; it is dropped with the others."""
    query = "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    with databases.admin() as admin:
        admin.execute(sql.SQL(query).format(sql.Identifier(name), sql.Identifier(databases.user)))
        for setting in SETTINGS:
            admin.execute(sql.SQL("ALTER DATABASE {} SET ").format(sql.Identifier(name)) + sql.SQL(setting))
    return site(databases, store).at(name)


@pytest.mark.parametrize("name", ["default", "visibility"])
def test_awkward_names_and_settings(databases: Databases, name: str) -> None:
    """A database's name that needs quoting, and settings on it that change how SQL is read and printed."""
    install_and_upgrade(created(databases, name, f"We\"ird %s 'o' {name} {databases.user[-4:]}"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("transaction_timeout", "100"), ("restrict_nonsystem_relation_kind", '"foreign-table, view"')],
)
def test_a_roles_own_limits(databases: Databases, name: str, value: str) -> None:
    """What newer servers let a role be limited by ends neither a migration nor its lock, and no rehearsal."""
    store = site(databases, "visibility")
    limit = f'ALTER ROLE "{databases.user}" SET {name} = {value}'
    store.admin(
        f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_settings WHERE name = '{name}') THEN EXECUTE '{limit}'; END IF; END $$"
    )
    install_and_upgrade(store)


def test_much_beside_the_tables(databases: Databases) -> None:
    """The extension in another schema, tables named like catalogs, DDL noted down, a login that sets its role."""
    store = site(databases, "visibility", SQL_USER=databases.vendor_user, SQL_PASSWORD=databases.vendor_password)
    store.admin("CREATE SCHEMA extensions", "CREATE EXTENSION btree_gin SCHEMA extensions", *LOGGING_DDL)
    store.run("CREATE TABLE pg_class (relname text)", "CREATE TABLE pg_index (a int)")
    store.admin("CREATE TABLE foreign_to_us (a int)")
    install_and_upgrade(store, extras=3)
    with databases.admin(store.name) as admin:
        owners = admin.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE tablename LIKE 'exec%'").fetchall()
        assert owners == [(databases.user,)]
        assert admin.execute("SELECT count(*) > 20 FROM audit.log").fetchone() == (True,)


def test_own_objects_in_the_default_store(databases: Databases) -> None:
    """Triggers, partitions, children and publications of the user's own are tolerated and named."""
    store = site(databases, "default").install("1.18", "1.29.1")
    store.run(
        "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        "CREATE TRIGGER own BEFORE INSERT ON namespaces FOR EACH ROW EXECUTE FUNCTION own()",
        "CREATE TRIGGER own BEFORE UPDATE ON schema_version FOR EACH ROW EXECUTE FUNCTION own()",
        "CREATE TABLE parted (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE child () INHERITS (tasks)",
    )
    store.admin("CREATE PUBLICATION everything FOR ALL TABLES")
    done = store.migrate()
    assert done.verdict is not None
    assert done.verdict.equal
    assert [str(one.key) for one in done.verdict.difference.extra] == [
        "function own()",
        "table child",
        "table parted",
        "table parted_1",
        "trigger namespaces.own",
    ]


def test_another_programs_schema_version(databases: Databases) -> None:
    """Flyway's table had the same name: no version is read from it, and nothing is touched."""
    store = site(databases, "default")
    store.run("CREATE TABLE schema_version (installed_rank int, version text)")
    assert str(store.refused()) == (
        'default: the table schema_version is not Temporal\'s: column "db_name" does not exist; '
        "give Temporal a database of its own, or a schema by search_path in SQL_CONNECT_ATTRIBUTES"
    )


def test_partitioned_by_hand(databases: Databases) -> None:
    """A table of the store that became a partitioned one is refused before the first step."""
    store = site(databases, "visibility").install("1.9", "1.29.1")
    store.run(
        "ALTER TABLE executions_visibility RENAME TO old",
        "CREATE TABLE executions_visibility (LIKE old INCLUDING ALL) PARTITION BY HASH (namespace_id)",
        "CREATE TABLE part PARTITION OF executions_visibility FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    )
    refusal = store.refused()
    assert isinstance(refusal, PreflightFailed)
    changed = "which was changed to a partitioned table"
    assert f"step 1.13 changes the table executions_visibility, {changed}" in refusal.detail


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ('My "Schéma', "%22My+%22%22Sch%C3%A9ma%22"),
        ("temporal", "Temporal,public"),
        ("<role>", "%22%24user%22,public"),
    ],
)
def test_schema_of_the_search_path(databases: Databases, schema: str, path: str) -> None:
    """The first schema of the search_path that is there holds everything, as PostgreSQL would choose it."""
    schema = schema.replace("<role>", databases.user)
    store = site(databases, "visibility", SQL_CONNECT_ATTRIBUTES=f"search_path={path}")
    with store.connect() as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    store.admin("CREATE TABLE public.other (a int)")
    install_and_upgrade(store)
    with store.connect() as connection:
        tables = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename LIKE '%schema_%'").fetchall()
    assert tables == [(schema,), (schema,)]


@pytest.mark.parametrize("name", ["default", "visibility"])
def test_look_alikes_in_another_schema(databases: Databases, name: str) -> None:
    """A second schema where the store seems to be is refused by name, and does not disturb verify."""
    store = site(databases, name, TEMPORAL_VERSION="1.29.1").install(None, "1.29.1")
    with store.connect() as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        connection.execute("CREATE SCHEMA copy")
        for (table,) in tables:
            copy = sql.SQL("CREATE TABLE copy.{0} (LIKE public.{0} INCLUDING ALL)").format(sql.Identifier(table))
            connection.execute(copy)
    assert store.verify().equal
    refusal = store.given(TEMPORAL_VERSION="1.32.2").refused()
    assert isinstance(refusal, PreflightFailed)
    assert f"tables of the {name} store are also in the schema copy" in refusal.detail

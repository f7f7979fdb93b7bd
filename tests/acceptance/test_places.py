"""Behind a transaction pooler, and in a schema other than public."""

from collections.abc import Callable, Iterator

import pytest
from psycopg import sql

from support.postgres.databases import STORES, Databases
from support.postgres.pgbouncer import pooled
from support.program.command import finish, run_cli, start_cli
from support.program.references import (
    NEWEST,
    Picture,
    References,
    migrate_by_vendor,
    newest,
    picture,
    run_here,
    start_by_vendor,
)
from support.visibility.traffic import fill, fill_large

BEFORE = {"default": (NEWEST, "1.18"), "visibility": (NEWEST, "1.9")}
SCHEMA = "temporal_schema"
IN_THE_WAY = (
    "  - a transaction pooler prevents CREATE INDEX CONCURRENTLY and VACUUM\n"
    "    set SQL_DIRECT_HOST (and SQL_DIRECT_PORT) to the server itself\n"
)


@pytest.fixture
def pooler(databases: Databases) -> Iterator[Databases]:
    """Show the databases through PgBouncer."""
    with pooled(databases) as seen:
        yield seen


@pytest.fixture
def older(databases: Databases) -> None:
    """Let the vendor's tool make an older version of both stores."""
    for store in STORES:
        start_by_vendor(databases, store, BEFORE[store])


def assert_upgraded(databases: Databases, references: References, *stores: str) -> None:
    """Compare with what the vendor's tool makes of the same beginning."""
    for store in stores:
        assert picture(databases, store) == references.picture(store, BEFORE[store], newest(store))


@pytest.mark.matrix
def test_pooler_installs(databases: Databases, references: References, pooler: Databases) -> None:
    """Through a pooler an installation is whole, and a second run finds nothing to do."""
    for _ in range(2):
        assert run_here(pooler.env(), "migrate") == 0
        for store in STORES:
            assert picture(databases, store) == references.picture(store, newest(store))
    assert run_here(pooler.env(), "plan", "--check") == 0


@pytest.mark.matrix
def test_pooler_keeps_runs_apart(databases: Databases, references: References, pooler: Databases) -> None:
    """Of ten copies at once through a pooler all succeed, and one does the work."""
    runs = [finish(process) for process in [start_cli(pooler.env(), "migrate") for _ in range(10)]]
    assert [run.code for run in runs] == [0] * 10, runs
    for store in STORES:
        assert picture(databases, store) == references.picture(store, newest(store))


@pytest.mark.matrix
@pytest.mark.usefixtures("older")
def test_pooler_upgrades(databases: Databases, references: References, pooler: Databases) -> None:
    """Through a pooler small tables are upgraded like any."""
    with databases.connect("visibility") as connection:
        fill(connection)
    assert run_here(pooler.env(), "migrate") == 0
    assert_upgraded(databases, references, *STORES)


@pytest.mark.matrix
@pytest.mark.usefixtures("older")
def test_pooler_is_in_the_way(databases: Databases, references: References, pooler: Databases) -> None:
    """Large tables need a way past the pooler; without it nothing is touched."""
    with databases.connect("visibility") as connection:
        fill_large(connection)
    env = pooler.env() | {"SCHEMA_MIGRATOR_STORES": "visibility"}
    refused = run_cli(env, "migrate")
    assert (refused.code, IN_THE_WAY in refused.stderr) == (12, True), refused
    assert picture(databases, "visibility") == references.picture("visibility", BEFORE["visibility"])
    direct = {"SQL_DIRECT_HOST": databases.host, "SQL_DIRECT_PORT": str(databases.port)}
    assert run_here(env | direct, "migrate") == 0
    assert_upgraded(databases, references, "visibility")


def create_schema(databases: Databases, store: str) -> None:
    """Create the owner's schema in a store's database or a named one."""
    with databases.connect(store) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))


def by_attributes(databases: Databases) -> dict[str, str]:
    """Name the schema in our settings."""
    return databases.env() | {"SQL_CONNECT_ATTRIBUTES": f"search_path={SCHEMA}"}


def by_database(databases: Databases) -> dict[str, str]:
    """Name the schema in the databases."""
    for store in STORES:
        set_search_path(databases, sql.SQL("DATABASE {}").format(sql.Identifier(databases.name(store))))
    return databases.env()


def by_role(databases: Databases) -> dict[str, str]:
    """Name the schema in the role, public after it."""
    set_search_path(databases, sql.SQL("ROLE {}").format(sql.Identifier(databases.user)), "public")
    return databases.env()


def set_search_path(databases: Databases, owner: sql.Composed, *more: str) -> None:
    """Set the search_path of a database or a role."""
    with databases.admin() as admin:
        path = sql.SQL(", ").join(map(sql.Identifier, (SCHEMA, *more)))
        admin.execute(sql.SQL("ALTER {} SET search_path = {}").format(owner, path))


@pytest.mark.parametrize("rewrite", ["in-place", "online"])
@pytest.mark.parametrize("name_schema", [by_attributes, by_database, by_role])
def test_other_schema(databases: Databases, name_schema: Callable[[Databases], dict[str, str]], rewrite: str) -> None:
    """In a schema that the search_path names, installation and upgrade are the vendor's."""
    env = name_schema(databases) | {"SCHEMA_MIGRATOR_REWRITE": rewrite}
    for store in STORES:
        create_schema(databases, store)
    between = {"DEFAULT_TARGET_VERSION": BEFORE["default"][1], "VISIBILITY_TARGET_VERSION": BEFORE["visibility"][1]}
    for targets in (between, {}):
        assert run_here(env | targets, "migrate") == 0
        assert run_here(env | targets, "plan", "--check") == 0
    for store in STORES:
        assert picture(databases, store, SCHEMA) == vendors(databases, store)


def vendors(databases: Databases, store: str) -> Picture:
    """Return what the vendor's tool makes in that schema."""
    name = databases.create()
    create_schema(databases, name)
    set_search_path(databases, sql.SQL("DATABASE {}").format(sql.Identifier(name)))
    migrate_by_vendor(databases, store, newest(store), database=name)
    return picture(databases, name, SCHEMA)

"""What a stranger who may create in the store's schema plants there is never run by a command."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from psycopg import sql

from schema_migrator.catalog import leftovers
from schema_migrator.catalog.leftovers import Leftover
from support.postgres import hostile_objects
from support.postgres.databases import Databases, fresh, unique
from support.postgres.engine import Engine
from support.program.command import run_cli
from support.program.store_driver import site
from support.vendor.kill_sweep import copy
from support.visibility import executions

FILL = """
INSERT INTO public.executions_visibility (namespace_id, run_id, start_time, execution_time, workflow_id,
  workflow_type_name, status, encoding, task_queue, search_attributes)
SELECT 'namespace', 'run ' || n, now(), now(), 'workflow ' || n, 'type', 1, '', 'queue', '{"Int01": 7}'
FROM generate_series(1, 60) n
"""
PENDING = {"default": "1.17", "visibility": "1.9"}
COMMANDS = (
    ("status",),
    ("plan", "--max-lock-seconds", "60"),
    ("verify",),
    ("wait", "--for", "database,schema", "--wait-timeout", "1"),
    ("create-database",),
    ("migrate", "--on-drift", "fail"),
    ("migrate", "--max-lock-seconds", "60"),
    ("status",),
    ("plan",),
    ("verify",),
    ("wait", "--for", "schema"),
    ("migrate",),
    ("migrate", "--abandon"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Two stores with steps pending, where `planter` has planted all there is."""

    databases: Databases
    planter: str
    names: dict[str, str]

    def assert_untouched(self, when: str) -> None:
        """Nothing that was planted has run, and the planter is no superuser."""
        for name in self.names.values():
            with self.databases.engine.connect(name, options="-c search_path=pg_catalog") as admin:
                assert not hostile_objects.sprung(admin), when
                query = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
                assert admin.execute(query, [self.planter]).fetchone() == (False,), when


@pytest.fixture(scope="module")
def soil(server: Engine) -> Iterator[tuple[Databases, str, str]]:
    """Plant in one database, to be copied: as a role that may create in `public`, as everybody could up to 14."""
    planter = unique("planter")
    role = sql.Identifier(planter)
    with fresh(server) as databases:
        database = databases.create()
        with databases.admin(database) as admin:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'planter'").format(role))
            admin.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(role))
        with databases.connect(database, user=planter, password="planter") as connection:
            hostile_objects.plant(connection, planter)
        yield databases, database, planter
    with server.connect() as admin:
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture
def planted(soil: tuple[Databases, str, str]) -> Planted:
    """Copy the database for each store, and install it there."""
    databases, database, planter = soil
    names = {store: copy(databases, database) for store in PENDING}
    for store, version in PENDING.items():
        site(databases, store).at(names[store]).install(version)
        with databases.admin(names[store]) as admin:
            admin.execute("ALTER SEQUENCE public.traps RESTART")
    with databases.connect(names["visibility"], options="-c search_path=pg_catalog") as owner:
        owner.execute(FILL)
    return Planted(databases=databases, planter=planter, names=names)


@pytest.mark.parametrize("rewrite", ["online", "in-place"])
def test_nothing_planted_is_run(planted: Planted, rewrite: str) -> None:
    """Every command is run by a superuser, with steps pending and at the target."""
    engine, names = planted.databases.engine, planted.names
    own = {"SQL_USER": engine.user, "SQL_PASSWORD": engine.password, "SCHEMA_MIGRATOR_REWRITE": rewrite}
    stores = {f"{store.upper()}_SQL_DATABASE": name for store, name in names.items()}
    for command in COMMANDS:
        done = run_cli(planted.databases.env() | own | stores, *command)
        planted.assert_untouched(f"{command}: {done.stderr}")
        pending = "--wait-timeout" in command
        assert done.code == (1 if pending else 0), (command, done.stderr[-2000:])


def test_the_traps_work(planted: Planted) -> None:
    """A query such as ours, with the role's own search_path, springs one; a superuser's makes the planter one."""
    with planted.databases.admin(planted.names["default"]) as admin:
        admin.execute("SELECT pg_postmaster_start_time()::text || '/' || oid FROM pg_database LIMIT 1")
        assert hostile_objects.sprung(admin)
        query = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
        assert admin.execute(query, [planted.planter]).fetchone() == (True,)
        admin.execute(sql.SQL("ALTER ROLE {} NOSUPERUSER").format(sql.Identifier(planted.planter)))


MEASURED = 3000
"""Rows of which `plan` tries the steps."""
OWNERS_CODE = """
CREATE SCHEMA own;
CREATE SEQUENCE own.seen;
CREATE FUNCTION own.look() RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    PERFORM nextval('own.seen');
  END IF;
END $$;
CREATE FUNCTION own.same(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
BEGIN
  PERFORM own.look();
  RETURN given;
END $$;
CREATE DOMAIN own.text AS text CHECK (own.same(VALUE) = VALUE);
"""
CALLERS = {
    "index": 'CREATE INDEX own ON executions_visibility (own.same(workflow_id)) -- index "own"',
    "column": "ALTER TABLE executions_visibility ADD own text GENERATED ALWAYS AS (own.same(workflow_id)) STORED"
    ' -- column "own"',
    "check": "ALTER TABLE executions_visibility ADD CONSTRAINT own CHECK (own.same(workflow_id) <> '')"
    ' -- check "own"',
    "domain": 'ALTER TABLE executions_visibility ADD own own.text -- the type of column "own"',
}


@pytest.mark.parametrize("kind", list(CALLERS))
def test_the_owners_code_does_not_run_as_a_superuser(server: Engine, kind: str) -> None:
    """`plan` leaves it out; an online rewrite is refused, which names it; in place nothing is computed again."""
    with fresh(server) as databases:
        database = site(databases, "visibility").install("1.9").name
        with databases.connect(database) as owner:
            executions.fill(owner, MEASURED)
            owner.execute(OWNERS_CODE.encode())
            statement, named = CALLERS[kind].split(" -- ")
            owner.execute(statement.encode())
        own = {"SQL_USER": server.user, "SQL_PASSWORD": server.password, "SCHEMA_MIGRATOR_STORES": "visibility"}
        env = databases.env() | own | {"VISIBILITY_SQL_DATABASE": database}
        assert run_cli(env, "plan").code == 0
        done = run_cli(env, "migrate", "--rewrite", "online")
        assert done.code == 31, done.stderr
        role = databases.user
        assert f'{named} calls own.same(text) of the role "{role}", which would run as the superuser' in done.stderr
        for command in (
            ("status",),
            ("migrate", "--rewrite", "in-place"),
            ("verify",),
            ("status",),
        ):
            done = run_cli(env, *command)
            assert done.code in (0, 23), (command, done.stderr)
        with databases.admin(database) as admin:
            assert admin.execute("SELECT is_called FROM own.seen").fetchone() == (False,)


CASTS = """
CREATE TYPE own.word AS ENUM ('0');
CREATE FUNCTION own.number(own.word) RETURNS {type} LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
BEGIN
  PERFORM own.look();
  RETURN NULL;
END $$;
CREATE CAST (own.word AS {type}) WITH FUNCTION own.number(own.word) AS IMPLICIT;
ALTER TABLE {table} ALTER {column} DROP DEFAULT, ALTER {column} TYPE own.word USING '0';
"""
READ = {
    ("schema_version", "version_partition", "int"): "1.19",
    ("schema_version", "curr_version", "text"): "1.19",
    ("schema_update_history", "version_partition", "int"): "1.18",
    ("schema_update_history", "new_version", "text"): "1.18",
    ("namespace_metadata", "partition_id", "int"): "1.18",
    ("namespace_metadata", "notification_version", "bigint"): "1.18",
    ("cluster_membership", "role", "int"): "1.19",
    ("cluster_membership", "last_heartbeat", "timestamp"): "1.19",
}
"""Columns that commands read, the type as which they would be compared, and the version of the store."""


@pytest.mark.parametrize("column", list(READ), ids=lambda column: "-".join(column[:2]))
def test_reading_a_table_runs_no_cast_of_its_owners(server: Engine, column: tuple[str, str, str]) -> None:
    """A store's owner gives a column a type of his own, with an implicit cast; a superuser looks at the store."""
    table, name, kind = column
    with fresh(server) as databases:
        database = site(databases, "default").install(READ[column]).name
        with databases.connect(database) as owner:
            owner.execute(
                "INSERT INTO cluster_membership (membership_partition, host_id, rpc_address, rpc_port, role,"
                " last_heartbeat) VALUES (0, 'a', 'a', 1, 1, now())"
            )
            owner.execute(OWNERS_CODE.encode())
            owner.execute(CASTS.format(table=table, column=name, type=kind).encode())
        own = {"SQL_USER": server.user, "SQL_PASSWORD": server.password, "SCHEMA_MIGRATOR_STORES": "default"}
        env = databases.env() | own | {"DEFAULT_SQL_DATABASE": database, "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "1"}
        for command in (("status",), ("plan",), ("verify",), ("wait", "--for", "schema")):
            done = run_cli(env, *command)
            assert done.code != 70, (command, done.stderr)
        with databases.admin(database) as admin:
            assert admin.execute("SELECT is_called FROM own.seen").fetchone() == (False,)


def test_counting_the_copied_rows_runs_no_cast_of_their_owners(server: Engine) -> None:
    """What an unfinished online rewrite has copied is in a table that the store's owner may alter."""
    with fresh(server) as databases:
        database = databases.create()
        with databases.connect(database) as owner:
            owner.execute(OWNERS_CODE.encode())
            owner.execute("CREATE TABLE own.batches (rows bigint); INSERT INTO own.batches VALUES (7)")
            owner.execute(CASTS.format(table="own.batches", column="rows", type="bigint").encode())
        with databases.admin(database) as admin:
            begun = Leftover(
                name="own", oid=0, schema="", table="", target="", fingerprint="", kept=False, finished=False
            )
            with admin.transaction():
                assert leftovers.copied(admin, begun) == 0
            assert admin.execute("SELECT is_called FROM own.seen").fetchone() == (False,)

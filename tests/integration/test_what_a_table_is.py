"""All that the catalogs say of a table is as a rewrite in place leaves it, or the rewrite is refused."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql

from schema_migrator.catalog import blockers
from schema_migrator.catalog.table_register import REGISTER
from schema_migrator.errors import RewriteBlocked
from schema_migrator.online import catalog_comparison
from schema_migrator.planning import plan, tables
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.program.command import Completed, finish
from support.program.references import picture
from support.program.store_driver import site
from support.vendor.kill_sweep import copy, differences
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.rewriting import SCHEMAS, Origin, events

ROWS = 60
NEW = 180000
"""PostgreSQL from which on NOT NULL is a constraint with a name."""
SPACE = "temporal_slow"
WORN = f"""
ALTER TABLE {TABLE} REPLICA IDENTITY USING INDEX {TABLE}_pkey;
ALTER TABLE {TABLE} CLUSTER ON {TABLE}_pkey;
ALTER TABLE {TABLE} ADD CONSTRAINT own_check CHECK (history_length >= 0) NO INHERIT;
ALTER TABLE {TABLE} SET (vacuum_truncate = off, toast.autovacuum_enabled = false, parallel_workers = 0);
ALTER INDEX {TABLE}_pkey SET (fillfactor = 60);
ALTER INDEX by_status SET (deduplicate_items = off);
CREATE INDEX own_index ON {TABLE} (lower(workflow_id), (1 + status)) WHERE status > 0;
CREATE INDEX own_gin ON {TABLE} USING gin (search_attributes) WITH (fastupdate = off);
ALTER INDEX own_index ALTER COLUMN 2 SET STATISTICS 300;
COMMENT ON TYPE {TABLE} IS 'row type';
COMMENT ON COLUMN {TABLE}.status IS 'column';
COMMENT ON INDEX {TABLE}_pkey IS 'index of the key';
COMMENT ON INDEX by_status IS 'index of the vendor''s';
COMMENT ON INDEX own_index IS 'own index';
COMMENT ON CONSTRAINT {TABLE}_pkey ON {TABLE} IS 'key';
COMMENT ON CONSTRAINT own_check ON {TABLE} IS 'check';
"""
WORN_SINCE_18 = f"""
ALTER TABLE {TABLE} RENAME CONSTRAINT {TABLE}_status_not_null TO own_not_null;
COMMENT ON CONSTRAINT own_not_null ON {TABLE} IS 'not null';
"""
# In a scratch schema of a rehearsal they would show as drift.
ON_CREATE = """
CREATE FUNCTION public.own_event() RETURNS event_trigger LANGUAGE plpgsql AS $fn$
DECLARE r record;
BEGIN
  FOR r IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
    IF r.object_type = 'table' AND r.command_tag IN ({tags}) AND r.schema_name !~ 'rehearsal|^pg_temp' THEN
      {body}
    END IF;
  END LOOP;
END $fn$;
CREATE EVENT TRIGGER {name} ON ddl_command_end WHEN TAG IN ({tags}) EXECUTE FUNCTION public.own_event();
"""
AUDIT = """EXECUTE format('CREATE TRIGGER own_audit AFTER INSERT ON %s FOR EACH STATEMENT
  EXECUTE FUNCTION suppress_redundant_updates_trigger()', r.object_identity);"""
STATISTICS = (
    "EXECUTE format('CREATE STATISTICS public.%I ON run_id, status FROM %s', 'own_' || r.objid, r.object_identity);"
)
OPTION = "EXECUTE format('ALTER TABLE %s SET (fillfactor = 50)', r.object_identity);"


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.9 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.9", ROWS)


@pytest.fixture(scope="module")
def space(server: Engine, origin: Origin) -> Iterator[str]:
    """Make a tablespace in which the owner may create."""
    with server.connect() as admin:
        admin.execute("SET allow_in_place_tablespaces = on")
        admin.execute(f"CREATE TABLESPACE {SPACE} LOCATION ''".encode())
        admin.execute(f'GRANT CREATE ON TABLESPACE {SPACE} TO "{origin.databases.user}"'.encode())
    yield SPACE
    with server.connect() as admin:
        for (name,) in admin.execute("SELECT datname FROM pg_database WHERE datname ~ '^temporal_copy_'").fetchall():
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute(f"DROP TABLESPACE {SPACE}".encode())


@contextmanager
def admin_of(origin: Origin, database: str) -> Iterator[Connection]:
    """Give a superuser's connection, whose expressions show as ours do."""
    with origin.databases.admin(database) as admin:
        admin.execute("SET search_path = public")
        yield admin


def known(origin: Origin, database: str) -> catalog_comparison.Picture:
    """Return all that the catalogs say of the table."""
    with admin_of(origin, database) as admin:
        ((oid,),) = admin.execute("SELECT %s::regclass::oid", [TABLE]).fetchall()
        return catalog_comparison.take(admin, oid, new=True)


def assert_as_in_place(origin: Origin, database: str, *, of: str | None = None) -> None:
    """Rewrite a copy in place and this one online; both are the same, by pg_dump and by the catalogs."""
    in_place = copy(origin.databases, of or database)
    assert_ended(finish(origin.migrate(in_place, "--rewrite", "in-place")))
    ended = origin.run(database)
    assert_ended(ended)
    assert "online.cut_over" in [event["event"] for event in events(ended)]
    assert differences(picture(origin.databases, database), picture(origin.databases, in_place)) == []
    assert known(origin, database) == known(origin, in_place)


def assert_ended(ended: Completed) -> None:
    """See that the run reached the target."""
    assert ended.code == 0, ended.stderr


def test_key_indexes_constraints_and_comments(origin: Origin) -> None:
    """Replica identity and CLUSTER ON by the primary key, comments on all that can have one, options, statistics."""
    database = origin.copy()
    with admin_of(origin, database) as admin:
        admin.execute(WORN.encode())
        if admin.info.server_version >= NEW:
            admin.execute(WORN_SINCE_18.encode())
    assert_as_in_place(origin, database)
    found = known(origin, database)
    assert found["table", ""]["relreplident"] == "i"
    key = found["index", f"{TABLE}_pkey"]
    assert (key["indisreplident"], key["indisclustered"], key["comment"]) == (True, True, "index of the key")


def test_an_invalid_index_of_ones_own(origin: Origin) -> None:
    """It is built, as a rewrite in place builds it."""
    database = origin.copy()
    with admin_of(origin, database) as admin:
        admin.execute(f"CREATE INDEX own_invalid ON {TABLE} (task_queue)".encode())
        admin.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'own_invalid'::regclass")
    assert_as_in_place(origin, database)
    assert known(origin, database)["index", "own_invalid"]["valid"]


def test_the_defaults_of_the_role(origin: Origin, space: str) -> None:
    """Tablespace and access method of what is there stay; what is new goes where the role puts it, as in place."""
    database = origin.copy()
    with admin_of(origin, database) as admin:
        admin.execute("CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler")
        admin.execute(f"ALTER INDEX by_status SET TABLESPACE {space}".encode())
    in_place = copy(origin.databases, database)
    for name in (database, in_place):
        with origin.databases.admin() as admin:
            for setting, value in (("default_tablespace", space), ("default_table_access_method", "own_heap")):
                query = sql.SQL("ALTER DATABASE {} SET {} = {}")
                admin.execute(query.format(sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)))
    assert_ended(finish(origin.migrate(in_place, "--rewrite", "in-place")))
    assert_ended(origin.run(database))
    found = known(origin, database)
    assert found == known(origin, in_place)
    with admin_of(origin, database) as admin:
        ((slow,),) = admin.execute("SELECT oid::text FROM pg_tablespace WHERE spcname = %s", [space]).fetchall()
    old = {name for kind, name in known(origin, origin.database) if kind == "index"}
    spaces = {name: said["reltablespace"] for (kind, name), said in found.items() if kind == "index"}
    assert found["table", ""]["reltablespace"] == "0"
    assert spaces == {name: slow if name == "by_status" or name not in old else "0" for name in spaces}


def on_create(admin: Connection, body: str, tags: str = "'CREATE TABLE', 'CREATE TABLE AS'") -> None:
    """Make an event trigger that does something to each table that a command has made."""
    admin.execute(ON_CREATE.format(name="own_event", body=body, tags=tags).encode())


def test_an_event_trigger_that_gives_new_tables_away(origin: Origin) -> None:
    """It makes a group the owner and switches row-level security on: the rewritten table is no new table."""
    database, group = origin.copy(), f"own_group_{origin.databases.user}"
    gives = f"""EXECUTE format('ALTER TABLE %s OWNER TO %I', r.object_identity, '{group}');
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', r.object_identity);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', r.object_identity);
        EXECUTE format('GRANT SELECT ON %s TO PUBLIC', r.object_identity);"""
    with admin_of(origin, database) as admin:
        admin.execute(f'CREATE ROLE "{group}"; GRANT "{group}" TO "{origin.databases.user}"'.encode())
        on_create(admin, gives)
    try:
        assert_as_in_place(origin, database)
    finally:
        with admin_of(origin, database) as admin:
            admin.execute(f'DROP ROLE "{group}"'.encode())


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (AUDIT, 'trigger "own_audit"'),
        (STATISTICS, 'extended statistics "own_'),
        (OPTION, "options of table is ['fillfactor=50'], expected []"),
    ],
    ids=["trigger", "statistics", "option"],
)
def test_an_event_trigger_that_adds_to_new_tables(origin: Origin, body: str, named: str) -> None:
    """The rewritten table would have more than the old one: refused before the live table is touched, and named."""
    database = origin.copy()
    with admin_of(origin, database) as admin:
        body = body.replace("CREATE STATISTICS", "CREATE STATISTICS IF NOT EXISTS")
        admin.execute(ON_CREATE.format(name="own_event", body=guarded(body), tags="'CREATE TABLE'").encode())
    where = site(origin.databases, "visibility").at(database)
    before = known(origin, database)
    ended = origin.run(database)
    assert ended.code == 23, ended.stderr
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert f'the rewritten table "{TABLE}" differs from the old one and was not put in place: ' in said
    assert named in said
    assert "online.started" not in [event["event"] for event in events(ended)]
    assert known(origin, database) == before
    assert_clean(origin, database)
    assert where.migrate(SCHEMA_MIGRATOR_REWRITE="in-place").plan.target is not None


def test_an_event_trigger_that_needs_a_search_path(origin: Origin) -> None:
    """It finds nothing but PostgreSQL's own under our search_path, and is named, with what to do about it."""
    database = origin.copy()
    with admin_of(origin, database) as admin:
        body = STATISTICS.replace("public.", "")
        admin.execute(ON_CREATE.format(name="own_event", body=guarded(body), tags="'CREATE TABLE'").encode())
    ended = origin.run(database)
    assert ended.code == 12, ended.stderr
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert "permission denied for schema pg_catalog (in public.own_event())" in said
    assert "which ran with search_path = pg_catalog, pg_temp, so it must name schemas itself" in said
    assert_clean(origin, database)


def guarded(body: str) -> str:
    """Let an event trigger do something to the shadow alone: the log has not its columns."""
    return f"IF r.object_identity ~ '\\.{TABLE}$' THEN {body} END IF;"


def assert_clean(origin: Origin, database: str) -> None:
    """See that nothing of ours is left, and that the table has no trigger of ours."""
    with admin_of(origin, database) as admin:
        assert admin.execute(SCHEMAS.encode()).fetchall() == []
        assert admin.execute("SELECT tgname FROM pg_trigger WHERE tgname ~ '^schema_migrator_'").fetchall() == []


def test_what_changes_the_new_table_under_the_lock(origin: Origin) -> None:
    """An event trigger that comes late and acts at the swap is seen under the lock, and nothing is swapped."""
    database = origin.copy()
    with admin_of(origin, database) as admin, origin.held(database) as held:
        body = (
            f"IF r.object_identity = 'public.{TABLE}' AND current_setting('own.done', true) IS DISTINCT FROM 'yes' THEN"
        )
        body += f" PERFORM set_config('own.done', 'yes', true); {OPTION} END IF;"
        on_create(admin, body, "'ALTER TABLE'")
        ended = held.release()
        assert ended.code == 23, ended.stderr
        assert ended.stderr.splitlines()[-1] == (
            f'error: visibility: the rewritten table "{TABLE}" differs from the old one and was not put in place: '
            "options of table is ['fillfactor=50'], expected []; "
            "remove what makes it differ, for example an event trigger, or use --rewrite in-place"
        )
        assert admin.execute(f"SELECT count(*) FROM {TABLE}".encode()).fetchone() == (ROWS,)
        assert known(origin, database)["table", ""]["options"] == []
    assert_clean(origin, database)


def test_a_property_that_is_not_known(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer PostgreSQL has and this program does not know forbids the rewrite, and is named."""
    where = site(databases, "visibility").install("1.9")
    assert blockers_of(where.connect()) == ()
    missing = {"pg_class.relam", "pg_subscription_rel.srrelid"}
    monkeypatch.setattr(blockers, "REGISTER", [entry for entry in REGISTER if entry.name not in missing])
    with where.connect() as owner:
        major = owner.info.server_version // 10000
        said = tuple(
            f"PostgreSQL {major} has {name}, which this version of the program does not know"
            for name in sorted(missing)
        )
        assert blockers_of(owner) == said
    refused = where.refused(SCHEMA_MIGRATOR_REWRITE="online")
    assert all(one in str(refused) for one in said)


def blockers_of(connection: Connection) -> tuple[str, ...]:
    """Return what forbids an online rewrite of the table."""
    with connection:
        return tables.read(connection, "public")[TABLE].blockers


def test_another_access_method(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan names it, online is refused for it, and in place keeps it: an encrypted table stays encrypted."""
    monkeypatch.setattr(plan, "ONLINE_BYTES", 0)
    database = origin.copy()
    with admin_of(origin, database) as admin:
        admin.execute("CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler")
        admin.execute(f"ALTER TABLE {TABLE} SET ACCESS METHOD own_heap".encode())
    with pytest.raises(RewriteBlocked, match='access method "own_heap"'):
        site(origin.databases, "visibility").at(database).plan()
    refused = origin.run(database)
    assert (refused.code, 'access method "own_heap"' in refused.stderr) == (31, True)
    assert_ended(finish(origin.migrate(database, "--rewrite", "in-place")))
    with admin_of(origin, database) as admin:
        found = admin.execute("SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relname = %s", [TABLE])
        assert found.fetchall() == [("own_heap",)]

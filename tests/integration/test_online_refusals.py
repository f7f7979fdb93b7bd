"""What forbids an online rewrite, each made on purpose: named, and nothing is touched."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql
from structlog.testing import capture_logs

from schema_migrator.errors import RewriteBlocked
from schema_migrator.estimation import in_place
from schema_migrator.execution import vendor_tool
from schema_migrator.planning import plan, tables
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.program.command import run_cli
from support.program.refusals import errors
from support.program.store_driver import Site, site
from support.visibility import rewriting
from support.visibility.executions import TABLE, written
from support.visibility.rewriting import Origin

ROWS = 50
KEY = "(namespace_id, run_id)"
HINDRANCES = {
    "no primary key": f"ALTER TABLE {TABLE} DROP CONSTRAINT {TABLE}_pkey",
    "deferrable primary key": f"""
        ALTER TABLE {TABLE} DROP CONSTRAINT {TABLE}_pkey;
        ALTER TABLE {TABLE} ADD CONSTRAINT {TABLE}_pkey PRIMARY KEY {KEY} DEFERRABLE""",
    'key column "namespace_id" of type public.own': f"""
        CREATE DOMAIN own AS char(64); ALTER TABLE {TABLE} ALTER namespace_id TYPE own""",
    'trigger "own"': f"""
        CREATE TRIGGER own BEFORE UPDATE ON {TABLE} FOR EACH ROW
        EXECUTE FUNCTION suppress_redundant_updates_trigger()""",
    'trigger "schema_migrator_log"': f"""
        CREATE TRIGGER schema_migrator_log BEFORE UPDATE ON {TABLE} FOR EACH ROW
        EXECUTE FUNCTION suppress_redundant_updates_trigger()""",
    "row-level security": f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY",
    'policy "own"': f"CREATE POLICY own ON {TABLE}",
    "policy own on public.own": f"""
        CREATE TABLE own (); CREATE POLICY own ON own USING (EXISTS (SELECT FROM {TABLE}))""",
    'rule "own"': f"CREATE RULE own AS ON DELETE TO {TABLE} WHERE false DO ALSO NOTHING",
    'foreign key "own_fk"': f"""
        CREATE TABLE own (n char(64), r char(64), CONSTRAINT own_fk FOREIGN KEY (n, r) REFERENCES {TABLE} {KEY})""",
    "inheritance": f"CREATE TABLE own () INHERITS ({TABLE})",
    'publication "own"': f"CREATE PUBLICATION own FOR TABLE {TABLE}",
    'publication "all"': 'CREATE PUBLICATION "all" FOR ALL TABLES',
    'publication "schema"': 'CREATE PUBLICATION "schema" FOR TABLES IN SCHEMA public',
    'unique index "own"': f"CREATE UNIQUE INDEX own ON {TABLE} (run_id)",
    'exclusion constraint "own"': f"ALTER TABLE {TABLE} ADD CONSTRAINT own EXCLUDE (run_id WITH =)",
    'constraint "own", which is not validated': f"ALTER TABLE {TABLE} ADD CONSTRAINT own CHECK (status > 9) NOT VALID",
    'constraint "own" of whole rows': f"ALTER TABLE {TABLE} ADD CONSTRAINT own CHECK ({TABLE} IS NOT NULL OR true)",
    'index "own" of whole rows': f"CREATE INDEX own ON {TABLE} (({TABLE} IS NULL))",
    "table constraint own on public.executions_visibility": f"""
        ALTER TABLE {TABLE} ADD CONSTRAINT own CHECK ('{TABLE}'::regclass::oid > 0)""",
    "default value for public.executions_visibility.own": f"""
        ALTER TABLE {TABLE} ADD own regclass DEFAULT '{TABLE}'""",
    'extended statistics "own"': f"CREATE STATISTICS own ON status, task_queue FROM {TABLE}",
    "security label": f"INSERT INTO pg_seclabel VALUES ('{TABLE}'::regclass, 'pg_class'::regclass, 1, 'own', 'secret')",
    "rights to its row type": f"REVOKE USAGE ON TYPE {TABLE} FROM PUBLIC",
    "rights that an extension or initdb gave": f"""
        INSERT INTO pg_init_privs VALUES ('{TABLE}'::regclass, 'pg_class'::regclass, 0, 'e', '{{{{=r/{{owner}}}}}}')""",
    'its membership in extension "btree_gin"': f"""
        ALTER EXTENSION btree_gin ADD TABLE {TABLE};
        DELETE FROM pg_init_privs WHERE objoid = '{TABLE}'::regclass""",
    'dependence on extension "btree_gin"': "ALTER INDEX by_status DEPENDS ON EXTENSION btree_gin",
    "unlogged": f"ALTER TABLE {TABLE} SET UNLOGGED",
    'it is a table of type "own"': f"""
        CREATE TYPE own AS ({{columns}});
        ALTER TABLE {TABLE} OF own""",
    'its own tablespace "temporal_own"': f"ALTER TABLE {TABLE} SET TABLESPACE {{space}}",
    f'index "{TABLE}_pkey" in tablespace "temporal_own", where our role may not create': f"""
        ALTER INDEX {TABLE}_pkey SET TABLESPACE {{space}}""",
    'access method "own_heap"': f"""
        CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler;
        ALTER TABLE {TABLE} SET ACCESS METHOD own_heap""",
    'sequence of column "own"': f"ALTER TABLE {TABLE} ADD own serial",
    "replica identity by an index that was dropped": f"""
        CREATE UNIQUE INDEX own ON {TABLE} (run_id);
        ALTER TABLE {TABLE} REPLICA IDENTITY USING INDEX own; DROP INDEX own""",
    'rights granted by "{server}"': f"""
        GRANT SELECT ON {TABLE} TO {{server}} WITH GRANT OPTION;
        SET ROLE {{server}}; GRANT SELECT ON {TABLE} TO PUBLIC; RESET ROLE""",
    'rights granted by "{server}" ': f"""
        GRANT SELECT (memo) ON {TABLE} TO {{server}} WITH GRANT OPTION;
        SET ROLE {{server}}; GRANT SELECT (memo) ON {TABLE} TO PUBLIC; RESET ROLE""",
    "view public.own": f"CREATE VIEW own AS SELECT run_id FROM {TABLE}",
    "materialized view public.own": f"CREATE MATERIALIZED VIEW own AS SELECT run_id FROM {TABLE}",
    f"function public.own(public.{TABLE})": f"CREATE FUNCTION own({TABLE}) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "table column public.own.kept": f"CREATE TABLE own (kept {TABLE})",
    "type public.own": f"CREATE DOMAIN own AS {TABLE}[]",
    "lack of a right to it: TRIGGER": f"REVOKE TRIGGER ON {TABLE} FROM {{owner}}",
}


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.12 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.12", ROWS)


@pytest.fixture(scope="module")
def space(server: Engine) -> Iterator[str]:
    """Make a tablespace within the server's own folder."""
    with server.connect() as admin:
        admin.execute("SET allow_in_place_tablespaces = on")
        admin.execute("CREATE TABLESPACE temporal_own LOCATION ''")
    yield "temporal_own"
    with server.connect() as admin:
        admin.execute("DROP TABLESPACE temporal_own")


@contextmanager
def copied(origin: Origin) -> Iterator[tuple[str, Connection]]:
    """Give a copy, with a superuser's connection; drop it."""
    database = origin.copy()
    try:
        with origin.databases.admin(database) as admin:
            yield database, admin
    finally:
        with origin.databases.admin() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


def columns(admin: Connection) -> str:
    """Return the columns of the table, as a type's attributes."""
    row = admin.execute(
        "SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)"
        " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped",
        [TABLE],
    ).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(("named", "made"), HINDRANCES.items(), ids=HINDRANCES)
def test_a_hindrance_is_named(origin: Origin, space: str, named: str, made: str) -> None:
    """What would stay behind with the old table, or what a copy could break, is found and named."""
    roles = {"server": origin.databases.server_user, "owner": origin.databases.user}
    with copied(origin) as (database, admin), origin.databases.connect(database) as owner:
        assert tables.read(owner, "public")[TABLE].blockers == ()
        admin.execute(made.format(columns=columns(admin), space=space, **roles).encode())
        assert tables.read(owner, "public")[TABLE].blockers == (named.strip().format(**roles),)


LOCKED = re.compile(r"that would lock the table for about \d+ s, at worst \d+ s")


def assert_refused(said: str, origin: Origin, database: str, reasons: tuple[str, ...]) -> None:
    """Each reason is a line of the refusal, and the line below says what to do and what in place would cost."""
    first, *lines = said.splitlines()
    who = f'role "{origin.databases.user}" cannot migrate database "{database}"'
    assert first.endswith(f"visibility: {who}; problems, and how to fix each:")
    assert lines[::2] == [f'  - "{TABLE}" cannot be rewritten online: {reason}' for reason in reasons]
    for line in lines[1::2]:
        assert line.startswith("    remove that for the duration of the rewrite, or use --rewrite in-place: ")
        assert LOCKED.search(line), line


def test_a_blocked_rewrite_is_refused_where_it_was_asked_for(origin: Origin) -> None:
    """With --rewrite online each blocker is a line of the refusal, and the database is as before."""
    with copied(origin) as (database, admin):
        for named in ('trigger "own"', 'publication "own"'):
            admin.execute(HINDRANCES[named].encode())
        where = site(origin.databases, "visibility").at(database)
        before = where.picture()
        refused = run_cli(origin.env(database), "migrate", *rewriting.ONLINE)
        assert refused.code == 31
        said = refused.stderr[refused.stderr.index("error: ") :]
        assert_refused(said, origin, database, ('publication "own"', 'trigger "own"'))
        assert where.picture() == before


def large(monkeypatch: pytest.MonkeyPatch, origin: Origin, database: str) -> Site:
    """Let every table count as large; return where the copy is."""
    monkeypatch.setattr(plan, "ONLINE_BYTES", 0)
    monkeypatch.setattr(in_place, "ONLINE_BYTES", 0)
    return site(origin.databases, "visibility").at(database).given(SCHEMA_MIGRATOR_LOG_LEVEL="info")


def test_a_large_table_goes_online_by_itself(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without being asked for, a large table is rewritten online."""
    with copied(origin) as (database, _), capture_logs() as logs:
        done = large(monkeypatch, origin, database).migrate()
    assert done.plan.online is not None
    assert done.plan.online.shape is not None
    assert "online.cut_over" in [event["event"] for event in logs]


@pytest.mark.parametrize("options", [{}, {"SCHEMA_MIGRATOR_ON_DRIFT": "warn"}], ids=["plain", "with an option"])
def test_a_blocked_large_table_is_refused(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    """Hours under its lock are never what nobody asked for: it is refused, with what in place would cost."""
    with copied(origin) as (database, admin):
        admin.execute(HINDRANCES['trigger "own"'].encode())
        where = large(monkeypatch, origin, database)
        refused = where.refused(**options)
        assert refused.exit_code == 31
        assert_refused(str(refused), origin, database, ('trigger "own"',))
        with pytest.raises(RewriteBlocked):
            where.plan()
        done = where.migrate(SCHEMA_MIGRATOR_REWRITE="in-place")
        assert done.plan.online is not None
        assert done.plan.online.shape is None
        assert where.status().up_to_date


def test_a_blocker_throws_no_unfinished_copy_away(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy that a killed run left is kept until somebody decides, and the refusal says so; then it carries on."""
    with copied(origin) as (database, admin):
        with origin.held(database) as held:
            held.kill()
        admin.execute(HINDRANCES['publication "own"'].encode())
        where = large(monkeypatch, origin, database)
        refused = where.refused()
        assert "the unfinished copy is kept until then, and a trigger on the table logs changes" in str(refused)
        assert "schema-migrator migrate --abandon removes both" in str(refused)
        admin.execute("DROP PUBLICATION own")
        with capture_logs() as logs:
            where.migrate()
        assert "online.resumed" in [event["event"] for event in logs]


def test_a_large_table_that_nobody_can_rehearse(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CREATE on the database nobody knows what the steps rewrite: --no-verify does not mean in place."""
    with copied(origin) as (database, admin):
        owner = sql.Identifier(origin.databases.user)
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(database)))
        admin.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(owner))
        where = large(monkeypatch, origin, database).given(SCHEMA_MIGRATOR_NO_VERIFY="true")
        refused = where.refused()
        assert f'whether the steps would rewrite "{TABLE}"' in str(refused)
        assert "is unknown without a rehearsal" in str(refused)
        assert where.migrate(SCHEMA_MIGRATOR_REWRITE="in-place").plan.steps


def test_the_vendors_tool_rewrites_in_place(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other executor knows no online rewrite, so that a large table is refused for it too."""
    with copied(origin) as (database, _):
        monkeypatch.setattr(vendor_tool, "check", lambda _: None)
        refused = large(monkeypatch, origin, database).refused(SCHEMA_MIGRATOR_EXECUTOR="sql-tool")
        assert_refused(str(refused), origin, database, ("the executor is sql-tool",))


def test_in_place_where_that_is_wanted(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --rewrite in-place even a large table is written as the steps stand, and no event tells of it."""
    with copied(origin) as (database, _), capture_logs() as logs:
        done = large(monkeypatch, origin, database).migrate(SCHEMA_MIGRATOR_REWRITE="in-place")
    assert done.plan.online is not None
    assert (done.plan.online.shape, done.plan.online.declined) == (None, "--rewrite in-place is set")
    assert [event for event in logs if event["event"].startswith("online.")] == []


def test_online_needs_a_rehearsal(origin: Origin) -> None:
    """Without CREATE on the database there is no rehearsal, and so no online rewrite: refused, --no-verify or not."""
    with copied(origin) as (database, admin):
        admin.execute(f'REVOKE CREATE ON DATABASE "{database}" FROM "{origin.databases.user}"'.encode())
        refused = run_cli(origin.env(database), "migrate", "--no-verify", *rewriting.ONLINE)
    assert refused.code == 12
    assert errors(refused)[2] == (
        f'    as its owner run: GRANT CREATE ON DATABASE "{database}" TO "{origin.databases.user}"; '
        "or skip verification and online rewrites: --no-verify"
    )


def test_online_needs_our_own_executor(databases: Databases) -> None:
    """The vendor's binary writes tables in place: asking for both is refused."""
    env = databases.env() | {"SCHEMA_MIGRATOR_EXECUTOR": "sql-tool", "SCHEMA_MIGRATOR_SQL_TOOL": "/bin/true"}
    refused = run_cli(env, "migrate", *rewriting.ONLINE)
    assert (refused.code, errors(refused)) == (
        2,
        [
            (
                "error: the executor is sql-tool, which writes tables in place, but SCHEMA_MIGRATOR_REWRITE is online; "
                "remove one of them"
            )
        ],
    )


def test_a_table_that_was_never_analysed(origin: Origin) -> None:
    """Without statistics several indexes look as good as the primary key's: the proof takes that one all the same."""
    with copied(origin) as (database, admin):
        admin.execute(f"UPDATE {TABLE} SET namespace_id = 'ns ' || status % 5".encode())
        admin.execute(f"CREATE TABLE kept AS TABLE {TABLE}".encode())
        admin.execute(f"TRUNCATE {TABLE}".encode())
        names = written(admin)
        taken = ", ".join("left(run_id, 30) || turn" if name == "run_id" else name for name in names)
        copies = f"SELECT {taken} FROM kept, generate_series(1, 40) turn"
        admin.execute(f"INSERT INTO {TABLE} ({', '.join(names)}) {copies}".encode())
        admin.execute("DROP TABLE kept")
        assert admin.execute(f"SELECT reltuples FROM pg_class WHERE oid = '{TABLE}'::regclass".encode()).fetchone() == (
            -1,
        )
        done = origin.run(database)
        assert done.code == 0, done.stderr
        assert admin.execute(f"SELECT count(*) FROM {TABLE}".encode()).fetchone() == (40 * ROWS,)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("100%s", 'the name "100%s" has a percent sign'),
        ("schema_migrator_turn", 'its column "schema_migrator_turn" has a name that our statements use'),
    ],
)
def test_a_name_that_our_statements_cannot_take(origin: Origin, name: str, said: str) -> None:
    """It is refused before anything is begun."""
    with copied(origin) as (database, admin):
        admin.execute(f'ALTER TABLE {TABLE} ADD COLUMN "{name}" int'.encode())
        refused = origin.run(database)
        assert refused.code == 31
        assert f"cannot be rewritten online: {said}" in refused.stderr
        assert admin.execute(rewriting.SCHEMAS).fetchall() == []
        assert admin.execute("SELECT FROM pg_trigger WHERE tgname = 'schema_migrator_log'").fetchall() == []


def test_an_event_trigger_that_closes_new_tables(origin: Origin) -> None:
    """Where the log could not be written to, nobody's writes could: it is found out before its trigger is made."""
    with copied(origin) as (database, admin):
        admin.execute(
            "CREATE FUNCTION closes() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE o record; BEGIN"
            " FOR o IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table'"
            " AND object_identity LIKE '%.log' LOOP"
            " EXECUTE 'ALTER TABLE ' || o.object_identity || ' ADD CHECK (false)';"
            " END LOOP; END $$;"
            "CREATE EVENT TRIGGER closes ON ddl_command_end WHEN TAG IN ('CREATE TABLE AS') EXECUTE FUNCTION closes()"
        )
        try:
            refused = origin.run(database)
            assert refused.code == 34, refused.stderr
            assert 'violates check constraint "log_check"' in refused.stderr
            assert admin.execute(rewriting.SCHEMAS).fetchall() == []
            assert admin.execute("SELECT FROM pg_trigger WHERE tgname = 'schema_migrator_log'").fetchall() == []
        finally:
            admin.execute("DROP EVENT TRIGGER closes")

"""Damaged tables and indexes under an online rewrite: each fault refused by name, and not a row is lost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from psycopg import sql
from structlog.testing import capture_logs

from schema_migrator.errors import Damaged, MigratorError, NotAsRehearsed, RewriteBlocked, TableChanged
from schema_migrator.online import cutover, index_builds, query_plans, replay, rewrite
from schema_migrator.online.source_table import SourceTable
from schema_migrator.online.table_attributes import TableAttributes
from support.postgres.databases import fresh
from support.postgres.engine import Engine
from support.postgres.older_servers import PINNED, older
from support.program.store_driver import Site, site
from support.selection import spread
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.rewriting import SCHEMAS, Origin

ROWS = 1500
SHADOW = "schema_migrator_shadow"
OF_PRIMARY = f"WHERE indrelid = '{TABLE}'::regclass AND indisprimary"
PUT = f"""
INSERT INTO {TABLE}
  (namespace_id, run_id, start_time, execution_time, workflow_id, workflow_type_name, status, encoding)
SELECT namespace_id, {{run}}, start_time, execution_time, {{workflow}}, workflow_type_name, status, encoding
FROM {TABLE} ORDER BY run_id LIMIT 1"""
HIDDEN = PUT.format(run="'hidden'", workflow="workflow_id")
OTHER_TWIN = PUT.format(run="run_id", workflow="'other'")
FIRST = f"run_id = (SELECT min(run_id) FROM {TABLE})"
# The same in every column, those that are computed left out.
SAME_TWIN = f"""
DO $$ BEGIN EXECUTE (
  SELECT format('INSERT INTO {TABLE} (%1$s) SELECT %1$s FROM {TABLE} WHERE {FIRST}', string_agg(attname, ', '))
  FROM pg_attribute WHERE attrelid = '{TABLE}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '');
END $$"""
UNLED = 'no entry of the primary key\'s index points to a row of "executions_visibility", expected an undamaged table; '
DOUBLED = 'two rows of "executions_visibility" have the same key, expected an undamaged table; '
AS_BEFORE = "it was not replaced and is unchanged: namespace_id = "
AMCHECK = "check the table with amcheck (bt_index_check, verify_heapam), REINDEX it, then run this again"


def unseen(*statements: str) -> tuple[str, ...]:
    """Return what runs statements while the primary key's index takes no entries, as damage leaves it."""
    turned = f"UPDATE pg_index SET indisready = {{}} {OF_PRIMARY}"
    return turned.format("false"), *statements, turned.format("true")


def ambiguous(*statements: str) -> tuple[str, ...]:
    """Return what runs statements while the primary key's index takes two entries of one key."""
    turned = f"UPDATE pg_index SET indisunique = {{}} {OF_PRIMARY}"
    return turned.format("false"), *statements, turned.format("true")


DAMAGES = {
    "a row without an entry": (unseen(HIDDEN), UNLED, "run_id = 'hidden' in block "),
    "two rows that differ": (unseen(OTHER_TWIN), DOUBLED, " in block"),
    "two rows that are the same": (unseen(SAME_TWIN), DOUBLED, " in block"),
    "two rows, both in the index": (ambiguous(OTHER_TWIN), DOUBLED, " in block"),
}
FEW = f"DELETE FROM {TABLE} WHERE right(run_id, 2) !~ '^0'"
# Before retention had run there was about a row on each page, so that reading by an index costs less than reading all.
SPREAD = (
    f"ALTER TABLE {TABLE} SET (fillfactor = 10)",
    f"VACUUM FULL {TABLE}",
    f"ALTER TABLE {TABLE} RESET (fillfactor)",
)
FORGET = f"""
DELETE FROM pg_statistic WHERE starelid = '{TABLE}'::regclass;
UPDATE pg_class SET relpages = 0, relallvisible = 0,
  reltuples = CASE WHEN current_setting('server_version_num')::int < 140000 THEN 0 ELSE -1 END
WHERE oid = '{TABLE}'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '{TABLE}'::regclass)"""
CHEAP = 'ALTER DATABASE "{}" SET random_page_cost = 1.1'
# What comes before the damage, and what after it.
STATISTICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "fresh": ((), (f"VACUUM ANALYZE {TABLE}",)),
    "few rows on many pages": ((*SPREAD, FEW), (f"VACUUM ANALYZE {TABLE}",)),
    "old": ((*SPREAD, f"ANALYZE {TABLE}", FEW), ()),
    "missing": ((), (FORGET,)),
}


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.12 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.12", ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sick:
    """A copy of a store, to be damaged and rewritten."""

    site: Site

    def damage(self, *statements: str) -> None:
        """Run statements as the superuser."""
        self.site.admin(*statements)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """Ask as the superuser, without the help of any index."""
        with self.site.databases.admin(self.site.name) as admin:
            admin.execute("SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off")
            return admin.execute(query.encode()).fetchall()

    def refused(self) -> str:
        """Return the refusal of a rewrite; assert that structure, rights and rows are as before, and exit code 24."""
        refusal = self.site.refused()
        assert isinstance(refusal, Damaged), refusal
        assert refusal.exit_code == 24
        return str(refusal)

    def error(self) -> MigratorError:
        """Return the error of a rewrite; assert that no trace of it is left."""
        with pytest.raises(MigratorError) as error:
            self.site.migrate()
        assert self.ask(SCHEMAS) == []
        assert self.ask("SELECT FROM pg_trigger WHERE tgname ~ '^schema_migrator_'") == []
        return error.value


def sick(origin: Origin, *statements: str) -> Sick:
    """Return a copy in which statements were run, and in which a page costs little wherever it is."""
    database = origin.copy()
    found = Sick(site=site(origin.databases, "visibility").at(database).given(SCHEMA_MIGRATOR_REWRITE="online"))
    found.damage(CHEAP.format(database), *statements)
    return found


def assert_named(origin: Origin, damage: str, statistics: str) -> None:
    """Damage a table whose statistics are so; see that the fault is refused by name and nothing has changed."""
    done, named, place = DAMAGES[damage]
    before, after = STATISTICS[statistics]
    said = sick(origin, *before, *done, *after).refused()
    assert said.startswith(f"visibility: {named}{AS_BEFORE}"), said
    assert place in said
    assert "ctid (" in said
    assert said.endswith(AMCHECK)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_row_without_an_entry(origin: Origin, statistics: str) -> None:
    """It is found whatever the planner thinks of the table."""
    assert_named(origin, "a row without an entry", statistics)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name.startswith("two")])
def test_two_rows_of_one_key(origin: Origin, damage: str) -> None:
    """None of them is chosen: a person has to."""
    assert_named(origin, damage, "few rows on many pages")


@pytest.fixture(scope="module", params=PINNED)
def old_origin(request: pytest.FixtureRequest) -> Iterator[Origin]:
    """Make the same store on one of the older PostgreSQL versions after the other."""
    with older(request.param) as engine, fresh(engine) as databases:
        yield rewriting.origin(databases, "1.12", ROWS)


@pytest.mark.matrix
@pytest.mark.parametrize("statistics", spread(STATISTICS, len(STATISTICS)))
def test_a_row_without_an_entry_on_an_older_server(old_origin: Origin, statistics: str) -> None:
    """The same on PostgreSQL 13 to 17, and a sound table goes through."""
    assert_named(old_origin, "a row without an entry", statistics)
    before, after = STATISTICS[statistics]
    assert sick(old_origin, *before, *after).site.migrate().plan.online is not None


@pytest.mark.matrix
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name.startswith("two")])
def test_two_rows_of_one_key_on_an_older_server(old_origin: Origin, damage: str) -> None:
    """The same on PostgreSQL 13 to 17."""
    assert_named(old_origin, damage, "few rows on many pages")


LESS = f"DELETE FROM {{schema}}.{SHADOW} WHERE {FIRST}"
COPIED = f"""
DO $$ BEGIN EXECUTE (
  SELECT format('INSERT INTO {{schema}}.{SHADOW} (run_id, %1$s) SELECT ''more'', %1$s FROM {TABLE} WHERE {FIRST}',
    string_agg(quote_ident(attname), ', '))
  FROM pg_attribute WHERE attrelid = '{TABLE}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    AND attname <> 'run_id');
END $$"""
TAMPERED = {
    "a byte": (f"UPDATE {{schema}}.{SHADOW} SET encoding = encoding || ' ' WHERE {FIRST}", "a row of the copy differs"),
    "a row too few": (LESS, "the copy lacks a row of"),
    "a row too many": (COPIED, "the copy has a row that is not in"),
}


def meanwhile(monkeypatch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[], object]) -> None:
    """Act, once, right before the rewrite calls one of its functions."""
    called = getattr(module, name)
    left = [act]

    def call(*args: object, **kwargs: object) -> object:
        while left:
            left.pop()()
        return called(*args, **kwargs)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("tampered", TAMPERED)
def test_a_copy_that_is_not_the_same(origin: Origin, monkeypatch: pytest.MonkeyPatch, tampered: str) -> None:
    """One byte, one row too few or too many: refused by name."""
    found = sick(origin)
    done, named = TAMPERED[tampered]

    def tamper() -> None:
        ((schema,),) = found.ask(SCHEMAS)
        found.damage(done.format(schema=schema))

    meanwhile(monkeypatch, rewrite, "_vacuum", tamper)
    said = found.refused()
    assert said.startswith(f"visibility: {named}"), said
    assert AS_BEFORE in said


def test_a_row_that_was_logged_and_no_entry_leads_to(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log excuses no row from being led to: else it would be taken for deleted by the replay after the proof."""
    found = sick(origin, *unseen(HIDDEN))
    change = f"UPDATE {TABLE} SET encoding = 'changed' WHERE run_id || '' = 'hidden'"
    meanwhile(monkeypatch, rewrite, "_vacuum", lambda: found.damage("SET enable_indexscan = off", *unseen(change)))
    assert UNLED in str(found.error())
    assert found.ask(f"SELECT encoding FROM {TABLE} WHERE run_id = 'hidden'") == [("changed",)]


AFTERWARDS = {
    "a row that stays has no entry": (unseen(HIDDEN), UNLED, ROWS + 1),
    "two rows have entries": (ambiguous(OTHER_TWIN), DOUBLED, ROWS + 1),
    "a row that was deleted has one": (
        ambiguous(OTHER_TWIN, f"DELETE FROM {TABLE} WHERE workflow_id = 'other'"),
        'an index points to a row of "executions_visibility" that was deleted',
        ROWS,
    ),
}


@pytest.mark.parametrize("damaged", AFTERWARDS)
def test_damage_after_the_proof(origin: Origin, monkeypatch: pytest.MonkeyPatch, damaged: str) -> None:
    """The replays that follow the proof believe no index against the log."""
    found = sick(origin)
    done, named, left = AFTERWARDS[damaged]
    meanwhile(monkeypatch, cutover, "await_old_snapshots", lambda: found.damage(*done))
    error = found.error()
    assert isinstance(error, NotAsRehearsed)
    assert named in str(error)
    assert found.ask(f"SELECT count(*) FROM {TABLE}") == [(left,)]


def test_damage_under_the_lock(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the last replay: the log says that a row is there, and the index leads to none."""
    found = sick(origin)

    def log() -> None:
        ((schema,),) = found.ask(SCHEMAS)
        found.damage(f"INSERT INTO {schema}.log (namespace_id, run_id, schema_migrator_stays) VALUES ('n', 'r', true)")

    meanwhile(monkeypatch, replay, "assert_little", log)
    before = found.ask(f"SELECT * FROM {TABLE} ORDER BY run_id")
    error = found.error()
    assert str(error).startswith(f"visibility: {UNLED}{AS_BEFORE}'n', run_id = 'r'; ")
    assert found.ask(f"SELECT * FROM {TABLE} ORDER BY run_id") == before


def test_a_table_that_is_emptied_after_a_row_was_logged(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says that a row is there and it is gone with all others: that is no damage, another run may succeed."""
    found = sick(origin)
    meanwhile(monkeypatch, index_builds, "build", lambda: found.damage(HIDDEN, f"TRUNCATE {TABLE}"))
    assert isinstance(found.error(), TableChanged)
    monkeypatch.undo()
    assert found.site.migrate().plan.online is not None


@pytest.mark.parametrize("name", ["zero_damaged_pages", "ignore_checksum_failure"])
def test_a_setting_that_hides_damage(origin: Origin, name: str) -> None:
    """Where damaged rows would be passed over with a warning, nothing is begun."""
    found = sick(origin)
    found.damage(f'ALTER DATABASE "{found.site.name}" SET {name} = on')
    refusal = found.site.refused()
    assert isinstance(refusal, RewriteBlocked), refusal
    assert f"{name} = on for this role hides damaged rows, expected off" in refusal.message


def test_a_setting_that_hides_damage_and_comes_meanwhile(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for in the transaction of the proof; the copy is kept until it is off."""
    found = sick(origin)
    on = f'ALTER DATABASE "{found.site.name}" SET zero_damaged_pages = on'
    meanwhile(monkeypatch, rewrite.worker_pool, "open_pool", lambda: found.damage(on))
    with pytest.raises(RewriteBlocked, match="zero_damaged_pages = on"):
        found.site.migrate()
    monkeypatch.undo()
    found.damage(f'ALTER DATABASE "{found.site.name}" RESET zero_damaged_pages')
    with capture_logs() as logs:
        found.site.migrate()
    assert "online.resumed" in [event["event"] for event in logs]


def test_a_plan_that_takes_an_index(origin: Origin) -> None:
    """What the server would do is looked at: a count by an index alone is not believed, one of places is."""
    found = sick(origin)
    live = SourceTable(
        schema="public",
        table=TABLE,
        oid=0,
        key=(),
        attributes=TableAttributes(early=(), late=()),
        picture={},
        fingerprint="",
    )
    count = sql.SQL("SELECT count({}) FROM public.{} lying")
    alone, there = (count.format(sql.SQL(what), sql.Identifier(TABLE)) for what in ("*", "lying.ctid"))
    with found.site.connect() as owner:
        owner.execute("SET enable_seqscan = off")
        query_plans.assert_scans(owner, live, there, {"lying": query_plans.PHYSICAL})
        with pytest.raises(
            NotAsRehearsed, match=r"lying by (Index|Index Only|Bitmap Heap) Scan.*, expected Seq Scan or"
        ):
            query_plans.assert_scans(owner, live, alone, {"lying": query_plans.PHYSICAL})

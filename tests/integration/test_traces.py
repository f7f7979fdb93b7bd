"""Schemas that look like those of an online rewrite: which are ours, and that no other is ever touched."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from schema_migrator.commands import abandon as command
from schema_migrator.concurrency import Interrupt
from schema_migrator.errors import PreflightFailed, RefusedError
from support.postgres.databases import Databases, fresh, unique
from support.postgres.engine import Connection, Engine
from support.program.store_driver import Site, site
from support.vendor.kill_sweep import copy
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.rewriting import SCHEMAS

TRIGGERS = "SELECT tgname::text FROM pg_trigger WHERE tgname = 'schema_migrator_log'"
OURS = {"by": "temporal-schema-migrator", "schema": "public", "table": TABLE, "target": "1.14", "fingerprint": ""}
FULL = json.dumps({"format": 1, **OURS, "kept": False})
COMMENTS = {
    "without fields": json.dumps({"by": "temporal-schema-migrator"}),
    "deep": "[" * 200_000,
    "no JSON": "hands off",
    "none": None,
    "whole": FULL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A visibility store at 1.12 whose online rewrite was killed before the swap, to be copied."""

    databases: Databases
    database: str

    def site(self, **variables: str) -> Site:
        """Return a copy, and our program pointed at it."""
        return site(self.databases, "visibility", **variables).at(copy(self.databases, self.database))


@pytest.fixture(scope="module")
def mallory(server: Engine) -> Iterator[str]:
    """Create a role that may make schemas where that is granted; it outlives the databases."""
    name = unique("mallory")
    with server.connect() as admin:
        admin.execute(f'CREATE ROLE "{name}"'.encode())
    yield name
    with server.connect() as admin:
        admin.execute(f'DROP ROLE "{name}"'.encode())


@pytest.fixture(scope="module")
def unfinished(server: Engine, mallory: str) -> Iterator[Unfinished]:
    """Kill an online rewrite."""
    assert mallory
    with fresh(server) as databases:
        origin = rewriting.origin(databases, "1.12", 60)
        with origin.held(origin.database) as held:
            held.kill()
        yield Unfinished(databases=databases, database=origin.database)


@pytest.fixture(params=["owner", "superuser"])
def role(request: pytest.FixtureRequest, server: Engine) -> dict[str, str]:
    """Return the variables for the owner's role, which is set already, or for a superuser's."""
    if request.param == "owner":
        return {}
    return {"SQL_USER": server.user, "SQL_PASSWORD": server.password or "none"}


def names(connection: Connection, query: str) -> list[str]:
    """Return the names that a query gives."""
    return [name for (name,) in connection.execute(query.encode()).fetchall()]


def as_mallory(where: Site, mallory: str, *statements: str) -> None:
    """Run statements as a role that may make schemas in the database, and nothing else."""
    where.admin(
        f'GRANT CREATE ON DATABASE "{where.name}" TO "{mallory}"',
        f'SET ROLE "{mallory}"; {"; ".join(statements)}; RESET ROLE',
    )


def plant(where: Site, mallory: str, name: str, comment: str | None) -> None:
    """Let mallory make a schema of one of our names, with a table and a trigger's function in it."""
    says = "NULL" if comment is None else f"'{comment}'"
    as_mallory(
        where,
        mallory,
        f"CREATE SCHEMA {name}",
        f"COMMENT ON SCHEMA {name} IS {says}",
        f"CREATE TABLE {name}.{name} (precious int)",
        f"CREATE TABLE {name}.schema_migrator_shadow (precious int)",
        f"CREATE TABLE {name}.log (schema_migrator_turn int)",
        f"CREATE TABLE {name}.batches (upto text[], rows bigint)",
        f"CREATE FUNCTION {name}.log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    )


def abandon(where: Site) -> tuple[str, ...]:
    """Run migrate --abandon; return the schemas that it removed."""
    (done,) = command.abandon(where.settings(), Interrupt())
    return tuple(one.name for one in done.removed)


@pytest.mark.parametrize("comment", COMMENTS.values(), ids=COMMENTS)
@pytest.mark.parametrize("name", ["schema_migrator_online_1", "schema_migrator_retired_7"])
def test_a_strangers_schema_stays_and_ends_nothing(
    mallory: str, databases: Databases, role: dict[str, str], name: str, comment: str | None
) -> None:
    """Whatever its comment says: each command works, names it, and leaves it as it is, also a superuser's."""
    where = site(databases, "visibility", **role).install()
    plant(where, mallory, name, comment)
    before = where.picture()
    (seen,) = where.status().whose.foreign_schemas
    assert (seen.name, seen.owner, seen.why) == (name, mallory, f'it belongs to "{mallory}"')
    assert [one.event for one in where.foresee().notices] == ["schema.not_ours"]
    with capture_logs() as logs:
        done = where.migrate(SCHEMA_MIGRATOR_LOG_LEVEL="info")
    assert done.plan.empty
    assert [(one["event"], one["remedy"]) for one in logs if one["event"] == "schema.not_ours"] == [
        ("schema.not_ours", "it was not touched")
    ]
    assert abandon(where) == ()
    assert where.picture() == before


def test_an_upgrade_goes_by_what_strangers_have_planted(
    mallory: str, databases: Databases, role: dict[str, str]
) -> None:
    """Many of them hold up neither steps nor an online rewrite, and are all there afterwards."""
    where = site(databases, "visibility", **role).install("1.12")
    for number in range(1, 9):
        plant(where, mallory, f"schema_migrator_online_{number}", FULL)
    done = where.migrate(SCHEMA_MIGRATOR_REWRITE="online")
    assert done.verdict is not None
    assert done.verdict.equal
    with where.connect() as owner:
        assert len(names(owner, SCHEMAS)) == 8
    assert len(where.foresee().notices) == 6  # five of them, and how many more


@pytest.mark.parametrize("prefix", ["online", "retired"])
def test_a_name_that_is_taken(mallory: str, databases: Databases, role: dict[str, str], prefix: str) -> None:
    """A stranger's schema where the rewrite needs one of its own: refused before anything, with what to do."""
    where = site(databases, "visibility", **role).install("1.12")
    with where.connect() as owner:
        (number,) = owner.execute("SELECT %s::regclass::oid", [TABLE]).fetchone() or (0,)
    name = f"schema_migrator_{prefix}_{number}"
    plant(where, mallory, name, FULL)
    error = where.refused(SCHEMA_MIGRATOR_REWRITE="online")
    assert isinstance(error, PreflightFailed)
    assert f'the online rewrite of "{TABLE}" needs the name of the schema "{name}"' in error.detail
    assert f'have "{mallory}" rename or drop it: ALTER SCHEMA "{name}" RENAME TO' in error.detail
    assert where.migrate(SCHEMA_MIGRATOR_REWRITE="in-place").outcomes


def test_a_strangers_trigger_of_our_name(mallory: str, databases: Databases, role: dict[str, str]) -> None:
    """It is a trigger like any other: it forbids an online rewrite by its name, is told, and stays."""
    where = site(databases, "visibility", **role).install("1.12")
    plant(where, mallory, "schema_migrator_online_1", FULL)
    where.admin(
        f"CREATE TRIGGER schema_migrator_log AFTER INSERT ON {TABLE} FOR EACH ROW"
        " EXECUTE FUNCTION schema_migrator_online_1.log()"
    )
    error = where.refused(SCHEMA_MIGRATOR_REWRITE="online")
    assert 'trigger "schema_migrator_log"' in error.detail
    (seen,) = where.status().whose.foreign_schemas
    assert seen.watched == TABLE
    before = where.picture()
    with pytest.raises(RefusedError, match="which is not ours: it belongs to"):
        abandon(where)
    assert where.picture() == before
    where.migrate(SCHEMA_MIGRATOR_REWRITE="in-place")
    with where.connect() as owner:
        assert names(owner, TRIGGERS) == ["schema_migrator_log"]


FORMATS = {
    "another format": FULL.replace('"format": 1', '"format": 2'),
    "a field more": FULL.replace('"kept"', '"more": 1, "kept"'),
    "no format": json.dumps({**OURS, "kept": False}),
    "somebody's own": "do not drop",
}


@pytest.mark.parametrize("comment", FORMATS.values(), ids=FORMATS)
def test_a_comment_of_another_format(unfinished: Unfinished, role: dict[str, str], comment: str) -> None:
    """What another version of ours has begun is named, and left for that version."""
    where = unfinished.site(**role)
    with where.connect() as owner:
        (name,) = names(owner, SCHEMAS)
        owner.execute(f"COMMENT ON SCHEMA {name} IS '{comment}'".encode())
    found = where.status().whose
    assert (found.leftovers, [one.why for one in found.foreign_schemas]) == (
        (),
        ["this version of schema-migrator does not write such a comment"],
    )
    error = where.refused(SCHEMA_MIGRATOR_REWRITE="online")
    assert f'the schema "{name}", which already exists and is not ours' in error.detail
    before = where.picture()
    with pytest.raises(RefusedError, match="with migrate --abandon of the version that created it"):
        abandon(where)
    assert where.picture() == before


@pytest.mark.parametrize("made", ["log", "batches", "mine"])
def test_a_table_of_somebody_else_in_ours(
    unfinished: Unfinished, mallory: str, role: dict[str, str], made: str
) -> None:
    """Its owner counts and not its name: nothing is dropped, and it is named with its owner."""
    where = unfinished.site(**role)
    with where.connect() as owner:
        (name,) = names(owner, SCHEMAS)
    where.admin(f"CREATE TABLE IF NOT EXISTS {name}.{made} (n int)", f'ALTER TABLE {name}.{made} OWNER TO "{mallory}"')
    before = where.picture()
    with pytest.raises(RefusedError) as refusal:
        abandon(where)
    assert "contains objects that are not ours: " in refusal.value.message
    assert f'table {name}.{made} of "{mallory}"' in refusal.value.message
    assert where.picture() == before


def test_a_trigger_that_calls_our_function(unfinished: Unfinished, role: dict[str, str]) -> None:
    """One that somebody has put on another table is not ours to drop: it is named, and all stays."""
    where = unfinished.site(**role)
    with where.connect() as owner:
        (name,) = names(owner, SCHEMAS)
        owner.execute("CREATE TABLE own (n int)")
        owner.execute(f"CREATE TRIGGER own AFTER INSERT ON own FOR EACH ROW EXECUTE FUNCTION {name}.log()".encode())
    before = where.picture()
    with pytest.raises(RefusedError, match=r'calls a function in the schema .*: "own" on public\.own'):
        abandon(where)
    assert where.picture() == before


def test_a_table_that_was_moved(unfinished: Unfinished, role: dict[str, str]) -> None:
    """It has another schema by now, and its trigger is ours all the same."""
    where = unfinished.site(**role)
    with where.connect() as owner:
        owner.execute(f"CREATE SCHEMA other; ALTER TABLE {TABLE} SET SCHEMA other".encode())
        abandon(where)
        assert names(owner, SCHEMAS) == []
        assert owner.execute("SELECT FROM pg_trigger WHERE tgname = 'schema_migrator_log'").fetchall() == []


LOST = {
    "comment removed": "COMMENT ON SCHEMA {name} IS NULL",
    "schema renamed": "ALTER SCHEMA {name} RENAME TO put_away",
    "both": "ALTER SCHEMA {name} RENAME TO put_away; COMMENT ON SCHEMA put_away IS NULL",
    "trigger gone too": f"COMMENT ON SCHEMA {{name}} IS NULL; DROP TRIGGER schema_migrator_log ON {TABLE}",
    "live schema renamed": "ALTER SCHEMA public RENAME TO temporal; CREATE SCHEMA public",
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize("way", ["migrate", "abandon"])
def test_an_unfinished_rewrite_that_has_lost_its_comment(
    unfinished: Unfinished, role: dict[str, str], lost: str, way: str
) -> None:
    """Status tells it with the size of the log; migrate or --abandon removes all of it, and no row goes."""
    where = unfinished.site(**role)
    if "temporal" in lost:
        where = where.given(SQL_CONNECT_ATTRIBUTES="search_path=temporal")
    with where.connect() as owner:
        (name,) = names(owner, SCHEMAS)
    where.admin(lost.format(name=name))
    (found,) = where.status().whose.leftovers
    watching = "DROP TRIGGER" not in lost
    assert (found.table, found.lost, found.unfinished, found.watching) == (TABLE, True, True, watching)
    assert found.log_bytes > 0
    if way == "migrate":
        assert where.migrate(SCHEMA_MIGRATOR_REWRITE="online").plan.online is not None
    else:
        assert abandon(where) == (found.name,)
    with where.connect() as owner:
        owner.execute("SET search_path = temporal, public")
        kept = owner.execute(f"SELECT count(*) FROM {TABLE}".encode()).fetchone()
        left = names(owner, r"SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^schema_migrator|put_away'")
        assert (left, names(owner, TRIGGERS), kept) == ([], [], (60,))
    assert where.status().whose.leftovers == ()


def test_the_words_for_it(unfinished: Unfinished) -> None:
    """Status says in a line what stands, how large the log is, and what ends it."""
    from schema_migrator.reports import layout, status_report  # noqa: PLC0415 - the one test of text here
    from schema_migrator.terminal import Screen  # noqa: PLC0415

    def words() -> str:
        return " ".join(layout.rendered(status_report.status_text((where.status(),)), Screen()).split())

    where = unfinished.site()
    with where.connect() as owner:
        (name,) = names(owner, SCHEMAS)
        size = owner.execute(f"SELECT pg_total_relation_size('{name}.log') / 1024".encode()).fetchone()
        assert size is not None
        assert f"its trigger logs every write to the table, {size[0]} kB so far: migrate resumes it" in words()
        owner.execute(f"COMMENT ON SCHEMA {name} IS NULL".encode())
    text = words()
    assert f'online rewrite of {TABLE} in "{name}" unfinished, and its comment is missing' in text
    assert f"{size[0]} kB so far: the next migrate, or migrate --abandon, removes it" in text


def test_a_kept_table_that_has_lost_its_comment(unfinished: Unfinished, role: dict[str, str]) -> None:
    """Rows are in it: migrate leaves it, and takes no lock for it; --abandon removes it."""
    where = unfinished.site()
    where.migrate(SCHEMA_MIGRATOR_REWRITE="online", SCHEMA_MIGRATOR_KEEP_OLD="true")
    where = where.given(**role)
    with where.connect() as owner:
        (name,) = names(owner, SCHEMAS)
        where.admin(f"COMMENT ON SCHEMA {name} IS NULL")
        (found,) = where.status().whose.leftovers
        assert (found.name, found.kept, found.finished, found.lost) == (name, True, True, True)
        with capture_logs() as logs:
            where.migrate(SCHEMA_MIGRATOR_LOG_LEVEL="info")
        assert [one["event"] for one in logs] == ["schema.at_target"]
        assert names(owner, SCHEMAS) == [name]
    assert abandon(where) == (name,)


def test_what_a_rehearsal_has_left_is_told(mallory: str, databases: Databases, role: dict[str, str]) -> None:
    """Files that commit leave its schema: that is no other place of the store, and nobody drops it unasked."""
    where = site(databases, "visibility", **role).install("1.12")
    name = "schema_migrator_rehearsal_0123456789abcdef"
    where.admin(
        f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.{TABLE} (n int)", f"ALTER SCHEMA {name} OWNER TO CURRENT_USER"
    )
    found = where.foresee()
    assert [one.event for one in found.notices] == ["schema.not_ours"]
    where.migrate()
    as_mallory(where, mallory, "CREATE SCHEMA schema_migrator_rehearsal_0123456789abcdee")
    with where.connect() as owner:
        assert name in names(owner, SCHEMAS)
    assert len(where.status().whose.foreign_schemas) == 2

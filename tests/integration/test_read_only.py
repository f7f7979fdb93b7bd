"""A role that may only read, and a standby: the same findings as with all rights, and nothing written anywhere."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from psycopg import sql

from schema_migrator.demo import rehearsal_server
from schema_migrator.demo.embedded_postgres import private_server
from schema_migrator.diagnosis.state import Absent, At, Between
from schema_migrator.errors import MigratorError, PreflightFailed, SettingsError, UnknownState
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Engine
from support.postgres.older_servers import PINNED, installed, older
from support.postgres.standbys import MEGABYTE, Primary, primary
from support.program.command import finish, run_cli, start_cli
from support.program.store_driver import Site, site
from support.visibility.executions import fill
from support.waiting import await_true

TABLE = "executions_visibility"
SCRATCH = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^schema_migrator_'"
DOCS = Path(__file__).resolve().parents[2] / "docs"
REPORTS = Draft202012Validator(json.loads((DOCS / "reports.schema.json").read_text(encoding="utf-8")))
STATES = ("fresh", "behind", "drifted", "half-applied")
SLOWLY = (
    (
        "CREATE FUNCTION slowly() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE')"
        " THEN PERFORM pg_sleep(30); END IF; END $$"
    ),
    "CREATE EVENT TRIGGER slowly ON ddl_command_end EXECUTE FUNCTION slowly()",
)


def store_in(databases: Databases, state: str) -> Site:
    """Return a visibility store in a state."""
    store = site(databases, "visibility")
    if state == "half-applied":
        return store.half_install("1.2", 30)
    if state != "fresh":
        store.install("1.9" if state == "behind" else "1.14")
    if state == "drifted":
        store.run(f"DROP INDEX by_status; ALTER TABLE {TABLE} ALTER status SET DEFAULT 7; CREATE TABLE mine (a int)")
    return store


def elsewhere(databases: Databases, *, equipped: bool = False) -> str:
    """Return the URI of another database of the server; `equipped` with extensions of its own."""
    name = databases.create()
    if equipped:
        with databases.admin(name) as admin:
            admin.execute("CREATE EXTENSION btree_gin; CREATE EXTENSION citext")
    login = f"{databases.user}:{quote(databases.password, safe='')}"
    return f"postgresql://{login}@{databases.host}:{databases.port}/{name}"


def reading(store: Site, uri: str) -> Site:
    """Return the store as a role sees it that may only read, and that rehearses elsewhere."""
    databases = store.databases
    role = sql.Identifier(databases.server_user)
    with databases.connect(store.name) as owner:
        owner.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(role))
    login = {"SQL_USER": databases.server_user, "SQL_PASSWORD": databases.server_password}
    return store.given(**login, SCHEMA_MIGRATOR_REHEARSE_ON=uri)


def findings(store: Site) -> tuple[object, ...]:
    """Return what status, verify and plan find, without what depends on the role."""
    status, plan = store.status(), store.plan()
    try:
        verdict = store.verify()
        verified: object = (verdict.version, verdict.difference, verdict.unlisted)
    except UnknownState as error:
        verified = error.message
    return status.state, status.unlisted, verified, replace(plan, heir="")


def assert_same(databases: Databases, state: str, *, equipped: bool = False) -> None:
    """See that a role that may only read finds the same as the owner, and that nothing is left or changed."""
    store = store_in(databases, state)
    uri = elsewhere(databases, equipped=equipped)
    expected, reader = findings(store), reading(store, uri)
    before = store.picture()
    assert findings(reader) == expected
    assert store.picture() == before
    with psycopg.connect(uri) as other:
        assert other.execute(SCRATCH).fetchone() == (0,)
    kinds = {"fresh": Absent, "half-applied": Between}
    assert isinstance(expected[0], kinds.get(state, At))


@pytest.mark.parametrize("state", STATES)
def test_a_role_that_may_only_read(databases: Databases, state: str) -> None:
    """Status, verify and plan, whatever the state; extensions of the other database count for nothing."""
    assert_same(databases, state, equipped=state in ("behind", "half-applied"))


def test_what_it_says(databases: Databases) -> None:
    """Where it rehearsed, and what the role lacks to migrate; no password. Without the setting, what would help."""
    store = store_in(databases, "behind")
    reader = reading(store, elsewhere(databases))
    ended = run_cli({**databases.env("visibility"), **reader.variables}, "plan")
    assert ended.code == 0, ended.stderr
    assert f"rehearsed on {databases.user}@{databases.host}:{databases.port}/temporal_more_" in ended.stdout
    assert "to migrate, another role or server is needed: it may not create the scratch schema" in ended.stdout
    for password in (databases.password, quote(databases.password, safe="")):
        assert password not in ended.stdout + ended.stderr
    with pytest.raises(PreflightFailed, match="--rehearse-on"):
        reader.verify(SCHEMA_MIGRATOR_REHEARSE_ON="")


def test_an_unfinished_rewrite_is_not_read(databases: Databases) -> None:
    """Its schema is closed to other roles: that it is there is reported, and what is in it stays unknown."""
    store = store_in(databases, "behind")
    with store.connect() as owner:
        fill(owner, 50)
    begun = run_cli(
        {**databases.env("visibility"), **store.variables, "SCHEMA_MIGRATOR_HOLD_TIMEOUT": "0"},
        *("migrate", "--rewrite", "online", "--hold-cutover"),
    )
    assert begun.code == 35, begun.stderr
    reader = reading(store, elsewhere(databases))
    (rewrite,) = reader.status().rewrites
    assert (rewrite.leftover.table, rewrite.copied, rewrite.control) == (TABLE, None, None)
    (seen,) = reader.foresee().begun
    assert (seen.leftover.table, seen.copied, seen.continues) == (TABLE, None, None)
    env = {**databases.env("visibility"), **reader.variables}
    assert "an unknown number of rows copied: migrate resumes or removes it" in run_cli(env, "plan").stdout
    document = json.loads(run_cli(env, "status", "--output", "json").stdout)
    assert best_match(REPORTS.iter_errors(document)) is None
    assert document["stores"][0]["online"][0]["rows_copied"] is None


def test_the_server_refuses_to_write(databases: Databases) -> None:
    """Also with all rights, the store's connection is read-only; the trials of plan are left out."""
    store = store_in(databases, "behind").given(SCHEMA_MIGRATOR_REHEARSE_ON=elsewhere(databases))
    with databases.admin(store.name) as admin:
        admin.execute("CREATE TABLE ddl (tag text)")
        admin.execute(
            "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS"
            " $$ BEGIN RAISE EXCEPTION 'no DDL here'; END $$"
        )
        admin.execute("CREATE EVENT TRIGGER note ON ddl_command_start EXECUTE FUNCTION note()")
    assert store.verify().equal
    assert [str(step.step.version) for step in store.plan().steps if step.statements] == ["1.13", "1.14"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("postgresql://nobody:secret-word@{host}:{port}/postgres", "SCHEMA_MIGRATOR_REHEARSE_ON: the server re"),
        ("{own}", "leads to the store's own database"),
    ],
)
def test_a_place_that_does_not_do(databases: Databases, place: str, said: str) -> None:
    """It is named by its setting, without its password."""
    store = store_in(databases, "behind")
    login = f"{databases.user}:{quote(databases.password, safe='')}"
    own = f"postgresql://{login}@{databases.host}:{databases.port}/{store.name}"
    uri = place.format(host=databases.host, port=databases.port, own=own)
    with pytest.raises(MigratorError) as refusal:
        store.verify(SCHEMA_MIGRATOR_REHEARSE_ON=uri, SCHEMA_MIGRATOR_WAIT_TIMEOUT="1")
    assert said in refusal.value.message
    assert "secret-word" not in str(refusal.value)


def test_a_killed_rehearsal_leaves_nothing(databases: Databases) -> None:
    """The scratch schema goes with the transaction of the process that is gone."""
    uri = elsewhere(databases)
    store = store_in(databases, "behind").given(SCHEMA_MIGRATOR_REHEARSE_ON=uri)
    name = uri.rpartition("/")[2]
    with databases.admin(name) as admin:
        for statement in SLOWLY:
            admin.execute(statement.encode())
        process = start_cli({**databases.env("visibility"), **store.variables}, "verify")
        busy = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'PgSleep'"
        await_true(lambda: admin.execute(busy.encode()).fetchone() is not None)
        process.kill()
        finish(process)
        await_true(lambda: admin.execute(busy.encode()).fetchone() is None)
        await_true(lambda: admin.execute(SCRATCH).fetchone() == (0,))


@pytest.fixture
def streaming() -> Iterator[Primary]:
    """Start a server that may have standbys."""
    with primary() as server:
        yield server


def of_standby(server: Primary) -> None:
    """See that the owner finds on a standby what it finds on the primary, and how old that is."""
    with fresh(server.engine) as databases:
        store = store_in(databases, "drifted")
        uri = elsewhere(databases)
        expected = findings(store)
        with server.standby("reader") as standby:
            there = store.given(SQL_PORT=str(standby.engine.port), SCHEMA_MIGRATOR_REHEARSE_ON=uri)
            await_true(lambda: caught_up(server.engine, standby.engine))
            assert findings(there) == expected
            shown = there.verify().standby
            assert shown is not None
            assert ((shown.behind or 0) < MEGABYTE // 2, shown.receiving, shown.paused) == (True, True, False)
            standby.pause()
            server.write(1)
            await_true(lambda: behind(there) > MEGABYTE // 2)
            late = there.status().standby
            assert late is not None
            assert late.paused
            env = {**databases.env("visibility"), **there.variables}
            for command in ("verify", "plan", "status"):
                document = json.loads(run_cli(env, command, "--output", "json").stdout)
                assert best_match(REPORTS.iter_errors(document)) is None
                assert document["stores"][0]["standby"]["paused"] is True
            text = run_cli(env, "verify").stdout
            assert f"a standby, as of LSN {late.replayed}: " in text
            assert "its replay is paused" in text
            with pytest.raises(PreflightFailed, match="read-only"):
                there.verify(SCHEMA_MIGRATOR_REHEARSE_ON="")


def behind(store: Site) -> int:
    """Return how much received WAL a standby has not replayed, as the status says."""
    shown = store.status().standby
    assert shown is not None
    return shown.behind or 0


def caught_up(server: Engine, standby: Engine) -> bool:
    """Whether a standby has replayed all that its primary has written."""
    with server.connect() as admin, standby.connect() as there:
        last = admin.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        return there.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", last).fetchone() == (True,)


def test_a_standby(streaming: Primary) -> None:
    """It shows as of which LSN the findings are, and how far behind it is."""
    of_standby(streaming)


@pytest.mark.matrix
@pytest.mark.parametrize("major", PINNED)
def test_a_role_that_may_only_read_on_every_postgresql(major: str) -> None:
    """The same on PostgreSQL 13 to 17, whose catalogs differ."""
    with older(major) as engine:
        for number, state in enumerate(STATES):
            with fresh(engine) as databases:
                assert_same(databases, state, equipped=number % 2 == 1)


@pytest.mark.matrix
@pytest.mark.parametrize("major", PINNED)
def test_a_standby_of_every_postgresql(major: str) -> None:
    """The same there, for its functions are older."""
    settings = {"max_connections": "100", "wal_level": "logical"}
    with private_server(settings=settings, bindir=installed(major) / "bin") as server:
        of_standby(Primary(engine=Engine.of(server), server=server))


def test_another_major_version_does_not_do(databases: Databases) -> None:
    """PostgreSQL prints definitions differently from version to version."""
    bindir = Path("/usr/lib/postgresql/15/bin")
    if not bindir.is_dir():
        pytest.skip("PostgreSQL 15 is not installed")
    store = store_in(databases, "behind")
    with private_server(bindir=bindir) as server:
        uri = f"postgresql://{server.user}:{quote(server.password)}@{server.host}:{server.port}/postgres"
        with pytest.raises(SettingsError, match="leads to PostgreSQL 15"):
            store.verify(SCHEMA_MIGRATOR_REHEARSE_ON=uri)


def test_the_embedded_server(databases: Databases) -> None:
    """It is started for a rehearsal alone, and what differs from the store's server is named."""
    store = reading(store_in(databases, "behind"), "embedded")
    env = {**databases.env("visibility"), **store.variables}
    ended = run_cli(env, "verify")
    assert ended.code == 0, ended.stderr
    assert "rehearsed on the embedded server, PostgreSQL " in ended.stdout
    done = run_cli(env | {"VISIBILITY_TARGET_VERSION": "1.9"}, "status")
    assert (done.code, "rehearsed" in done.stdout) == (0, False)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a folder for temporary files that every account may enter, for PostgreSQL does not run as root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        monkeypatch.setattr("tempfile.tempdir", name)
        yield Path(name)


def test_the_embedded_server_without_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files that is gone is no fault of the program."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(PreflightFailed, match=r"does not start: .*No such file"), rehearsal_server.running():
        pass


def test_what_a_killed_run_leaves_of_the_embedded_server(folder: Path) -> None:
    """The next run stops the server and removes its folder; one that is in use stays."""
    code = (
        "import sys, time; from schema_migrator.demo import rehearsal_server\n"
        "with rehearsal_server.running() as place: print(place.port, flush=True); time.sleep(600)"
    )
    environ = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        with rehearsal_server.running():
            assert len(list(folder.glob(f"{rehearsal_server.PREFIX}*"))) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
    (left,) = folder.glob(f"{rehearsal_server.PREFIX}*")
    assert (left / "data" / "postmaster.pid").exists()
    with rehearsal_server.running():
        assert not left.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=port, connect_timeout=5)
    assert not list(folder.glob(f"{rehearsal_server.PREFIX}*"))

"""What each command prints, to people and to programs."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.postgres.databases import RELEASES, Databases, bookkeeping, unique
from support.program.command import COMMAND, Completed, run_cli, run_process
from support.program.library import NEEDED
from support.program.refusals import Refusals, errors


def run(databases: Databases, *args: str, **changes: str) -> Completed:
    """Run a command that works."""
    done = run_cli(databases.env() | changes, *args)
    assert done.code == 0, done.stderr
    return done


def stores(databases: Databases, *args: str, **changes: str) -> dict[str, dict[str, Any]]:
    """Return the JSON of a command by store."""
    found = json.loads(run(databases, *args, "--output", "json", **changes).stdout)
    assert list(found) == ["stores"]
    return {entry["store"]: entry for entry in found["stores"]}


def events(done: Completed) -> list[dict[str, Any]]:
    """Return the events, which are JSON, a line each, where no terminal is."""
    return [json.loads(line) for line in done.stderr.splitlines()]


def words(text: str) -> list[list[str]]:
    """Return the cells of a table's rows."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip() and "──" not in line]


def test_status_json(databases: Databases) -> None:
    """Store, database, state, version, target and verdict, before and after the first run."""
    found = stores(databases, "status")
    assert found["visibility"] | {"missing_history": []} == {
        "store": "visibility",
        "database": databases.visibility,
        "schema": "public",
        "schema_owner": "pg_database_owner",
        "state": "absent",
        "version": None,
        "target": "1.14",
        "files": str(RELEASES / "1.32.2"),
        "required": "1.14",
        "up_to_date": False,
        "missing_history": [],
        "invalid_indexes": [],
        "tables_without_primary_key": [],
        "online": [],
        "other_schemas": None,
        "servers": {"newest_now": None, "newest_after": "1.32.2", "alive": None, "running": None},
        "notices": [],
    }
    run(databases, "migrate", "--store", "visibility", "--visibility-target-version", "1.9")
    found = stores(databases, "status")
    assert [found["visibility"][key] for key in ("state", "version", "target", "up_to_date")] == [
        "at",
        "1.9",
        "1.14",
        False,
    ]
    found = stores(databases, "status", VISIBILITY_TARGET_VERSION="1.8")
    assert [found["visibility"][key] for key in ("version", "target", "up_to_date")] == ["1.9", "1.8", True]
    assert found["default"]["state"] == "absent"


def test_status_text(databases: Databases) -> None:
    """A row a store, with the words of its state."""
    run(databases, "migrate", "--store", "default")
    rows = {row[0]: row for row in words(run(databases, "status").stdout)}
    assert rows["store"][:4] == ["store", "database", "version", "target"]
    assert rows["default"][:4] == ["default", databases.default, "1.19", "1.19"]
    assert rows["default"][4].startswith("at target")
    assert rows["visibility"][:4] == ["visibility", databases.visibility, "-", "1.14"]
    assert rows["visibility"][4].startswith("empty")
    text = " ".join(run(databases, "status").stdout.split())
    assert 'at target: nothing in the schema "public", which "pg_database_owner" owns servers up to 1.32 start' in text


def test_status_of_an_unknown_state(refusals: Refusals) -> None:
    """Status describes what migrate refuses, exit 0."""
    refusals.migrate("--store", "visibility", VISIBILITY_TARGET_VERSION="1.1")
    refusals.sql("visibility", "UPDATE schema_version SET curr_version = 'garbage'")
    found = stores(refusals.databases, "status", "--store", "visibility")["visibility"]
    assert (found["state"], found["version"], found["up_to_date"]) == ("unknown", None, False)
    assert found["reason"] == 'schema_version records "garbage", at least "0.1"'


@pytest.mark.parametrize("command", ["status", "plan"])
def test_check(databases: Databases, command: str) -> None:
    """With --check a store that is not at its target is exit 25, after the same results."""
    plain = run(databases, command)
    done = run_cli(databases.env(), command, "--check")
    assert (done.code, done.stdout) == (25, plain.stdout)
    assert errors(done) == [
        "error: the default and visibility stores are not at their targets; run schema-migrator migrate"
    ]
    run(databases, "migrate", "--store", "visibility")
    done = run_cli(databases.env(), command, "--check", "--output", "json")
    assert done.code == 25
    assert len(json.loads(done.stdout)["stores"]) == 2
    (failed,) = [event for line in done.stderr.splitlines() if (event := json.loads(line))["event"] == "run.failed"]
    assert (failed["found"], failed["hint"]) == (
        "the default store is not at its target",
        "run schema-migrator migrate",
    )
    run(databases, "migrate")
    run(databases, command, "--check")


def test_plan_json(databases: Databases) -> None:
    """The steps with their statements, in one transaction for a fresh store; nothing is changed."""
    found = stores(databases, "plan", "--store", "visibility")["visibility"]
    assert found["store"] == "visibility"
    assert (found["state"], found["version"], found["target"]) == ("absent", None, "1.14")
    assert (found["up_to_date"], found["one_transaction"]) == (False, True)
    assert [step["version"] for step in found["steps"]] == [f"1.{minor}" for minor in range(15)]
    first = found["steps"][0]
    assert first["description"] == "base version of visibility schema"
    assert first["statements"][0].startswith("CREATE TABLE executions_visibility (")
    assert (first["locks"], first["rewrites"], first["concurrently"]) == ([], [], False)
    with databases.connect("visibility") as connection:
        assert bookkeeping(connection) == {}


def test_plan_of_an_upgrade(databases: Databases) -> None:
    """For a store in use the locks and rewrites that a rehearsal finds are among the steps."""
    run(databases, "migrate", "--store", "visibility", "--visibility-target-version", "1.9")
    found = stores(databases, "plan", "--store", "visibility")["visibility"]
    assert not found["one_transaction"]
    by_version = {step["version"]: step for step in found["steps"]}
    assert list(by_version) == ["1.10", "1.11", "1.12", "1.13", "1.14"]
    assert by_version["1.10"]["statements"] == []
    (lock,) = by_version["1.13"]["locks"]
    assert (lock["table"], lock["mode"]) == ("executions_visibility", "ACCESS EXCLUSIVE")
    assert lock["bytes"] > 0
    assert by_version["1.13"]["rewrites"] == ["executions_visibility"]


def test_plan_text(databases: Databases) -> None:
    """A heading and a table a store; nothing to do is a plan too."""
    run(databases, "migrate", "--store", "default")
    text = run(databases, "plan").stdout
    where = 'schema "public", which "pg_database_owner" owns'
    assert f'default store, database "{databases.default}", {where}: at 1.19, nothing to do' in text
    assert f'visibility store, database "{databases.visibility}", {where}: nothing to 1.14, in one transaction' in text
    rows = words(text.partition("in one transaction")[2])
    assert rows[1][:2] == ["1.0", "1 CREATE TABLE"]


def test_migrate_json(databases: Databases) -> None:
    """What was done to each store, and again nothing."""
    found = stores(databases, "migrate", TEMPORAL_VERSION="1.29.1")["visibility"]
    assert (found["state"], found["from"], found["version"], found["target"]) == ("at", None, "1.9", "1.9")
    assert found["up_to_date"]
    assert found["steps"] == [f"1.{minor}" for minor in range(10)]
    assert found["seconds"] > 0
    again = stores(databases, "migrate", TEMPORAL_VERSION="1.29.1")["visibility"]
    assert (again["from"], again["version"], again["steps"]) == ("1.9", "1.9", [])


def test_migrate_text(databases: Databases) -> None:
    """A row a store with what was done."""
    rows = words(run(databases, "migrate").stdout)
    assert rows[0] == ["store", "database", "before", "now", "done"]
    assert rows[1][:4] == ["default", databases.default, "-", "1.19"]
    assert re.match(r"20 steps in \d+\.\d s", rows[1][4])
    rows = words(run(databases, "migrate").stdout)
    assert rows[1][:4] == ["default", databases.default, "1.19", "1.19"]
    assert rows[1][4].startswith("nothing to do")


def test_one_store_alone(databases: Databases) -> None:
    """--store leaves the other store alone, and needs no settings of it."""
    done = run(databases, "migrate", "--store", "visibility", DEFAULT_SQL_HOST="no.such.host.invalid")
    assert "default" not in done.stdout.replace(databases.default, "")
    with databases.connect("default") as connection:
        assert bookkeeping(connection) == {}


def test_releases(databases: Databases) -> None:
    """The 71 releases, each with the versions that its servers need; as text, a line for those with the same files."""
    found = json.loads(run(databases, "releases", "--output", "json").stdout)["releases"]
    assert {(entry["server"], entry["default"], entry["visibility"]) for entry in found} == {
        (version, *needed) for version, needed in NEEDED.items()
    }
    assert len({entry["files"] for entry in found}) == 16
    heads, *rows = words(run(databases, "releases").stdout)
    assert heads == ["server", "default schema", "visibility schema"]
    assert ["1.29.0 to 1.29.7", "1.18", "1.9"] in [list(row) for row in rows]
    assert [row[0] for row in rows if row[0].startswith("1.3")] == [
        "1.30.0 to 1.30.4",
        "1.30.5 to 1.30.9",
        "1.31.0",
        "1.31.1 to 1.31.2",
        "1.31.3 to 1.31.5",
        "1.32.0 to 1.32.2",
    ]


def test_create_database(databases: Databases) -> None:
    """Missing databases are created, and found the next time; then they can be migrated."""
    with databases.admin() as admin:
        admin.execute(f'ALTER ROLE "{databases.user}" CREATEDB'.encode())
    name = unique("temporal_new")
    new = {"DEFAULT_SQL_DATABASE": name}
    found = stores(databases, "create-database", **new)
    assert found == {
        "default": {"store": "default", "database": name, "created": True},
        "visibility": {"store": "visibility", "database": databases.visibility, "created": False},
    }
    assert run(databases, "create-database", **new).stdout.splitlines() == [
        f'default store: database "{name}" already existed',
        f'visibility store: database "{databases.visibility}" already existed',
    ]
    run(databases, "migrate", "--store", "default", **new)


def test_events(databases: Databases) -> None:
    """Standard error holds one JSON object an event, with level, time and store."""
    found = events(run(databases, "migrate"))
    assert {event["store"] for event in found if event["event"] == "schema.installed"} == {"default", "visibility"}
    assert all({"event", "level", "timestamp"} <= set(event) for event in found)
    assert all(re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", event["event"]) for event in found)
    again = events(run(databases, "migrate"))
    assert {event["event"] for event in again} == {"run.started", "schema.at_target", "run.ended"}
    assert run(databases, "migrate", "--log-level", "warning").stderr == ""


def test_events_on_a_terminal(databases: Databases) -> None:
    """On a terminal an event is a line to read."""
    mine, its = os.openpty()
    done = subprocess.run(
        [*COMMAND, "migrate", "--store", "visibility"],
        env=databases.env() | {"TERM": "dumb"},
        stdout=subprocess.DEVNULL,
        stderr=its,
        check=False,
    )
    os.close(its)
    with os.fdopen(mine, "rb", buffering=0) as terminal:
        text = terminal.read(65536).decode()
    assert done.returncode == 0
    assert "schema.installed" in text
    assert '{"' not in text


def test_letters_that_the_output_lacks(databases: Databases) -> None:
    """Where the locale has no place for a table's lines or a name's letters, there are question marks."""
    env = databases.env() | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run_process(env, "status", "--store", "default")
    assert words(done.stdout.replace("?", "\u2500"))[1][:2] == ["default", databases.default]
    assert "???" in done.stdout


def test_what_would_steer_a_terminal(databases: Databases) -> None:
    """A name with an escape sequence in it is shown by its codes, in a result as in an error."""
    run(databases, "migrate")
    with databases.connect("default") as connection:
        connection.execute('CREATE TABLE "clear\x1b[2Jed" (a int)')
    assert "table clear\\x1b[2Jed (tolerated)\n" in run(databases, "verify", "--store", "default").stdout
    refused = run_cli(databases.env(), "status", "--output", "\x1b[2J\x9b")
    assert refused.stderr == 'error: --output is "\\x1b[2J\\x9b", expected text or json\n'


def test_a_reader_that_has_left(databases: Databases) -> None:
    """A pipe on standard error whose reader is gone, as with `head`, ends no migration."""
    readable, writable = os.pipe()
    os.close(readable)
    done = subprocess.run(
        [*COMMAND, "migrate"], env=databases.env(), stderr=writable, stdout=subprocess.PIPE, check=False
    )
    refused = subprocess.run([*COMMAND, "migrate", "--nix"], env=databases.env(), stderr=writable, check=False)
    os.close(writable)
    assert (done.returncode, refused.returncode) == (0, 2)
    assert done.stdout.count(b"verified") == 2


def test_last_words(refusals: Refusals, tmp_path: Path) -> None:
    """The error and its exit code go to the termination message file, whatever kind of failure it is."""
    log = tmp_path / "termination-log"
    own = {"SCHEMA_MIGRATOR_TERMINATION_LOG": str(log)}
    for args, changes, begins in (
        ((), {"TEMPORAL_VERSION": "0.1"}, 'exit code 2: release "0.1" is not available in '),
        ((), {"SQL_PORT": "x"}, 'exit code 2: SQL_PORT is "x", expected a whole number\n'),
        (("--nix",), {}, "exit code 2: unknown flag --nix; see schema-migrator migrate --help\n"),
        ((), {"SQL_PASSWORD": "no"}, "exit code 10: default: the server rejected the password for "),
    ):
        log.write_text("before")
        code = int(begins.removeprefix("exit code ").partition(":")[0])
        done = refusals.run(code, *args, **own, **changes)
        assert log.read_text().startswith(begins)
        assert [f"error: {line}" for line in log.read_text().partition(": ")[2].splitlines()] == errors(done)


def test_last_words_nowhere(refusals: Refusals, tmp_path: Path) -> None:
    """The file is not created where Kubernetes has not made it, and one that cannot be written does no harm."""
    log = tmp_path / "termination-log"
    refusals.refused(2, SCHEMA_MIGRATOR_TERMINATION_LOG=str(log), TEMPORAL_VERSION="0.1")
    assert not log.exists()
    refusals.refused(2, "--termination-log", str(tmp_path), TEMPORAL_VERSION="0.1")


def test_no_last_words_on_success(databases: Databases, tmp_path: Path) -> None:
    """A run that goes well leaves the file alone."""
    log = tmp_path / "termination-log"
    log.write_text("before")
    run(databases, "status", "--termination-log", str(log))
    assert log.read_text() == "before"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--version",), "schema-migrator "),
        (("--help",), "usage: schema-migrator "),
        (("migrate", "--help"), "usage: schema-migrator migrate "),
    ],
)
def test_help_needs_nothing(args: tuple[str, ...], expected: str) -> None:
    """Version and help are shown without settings, files or a database."""
    done = run_cli({"SCHEMA_MIGRATOR_NONSENSE": "x"}, *args)
    assert done.code == 0
    assert done.stdout.startswith(expected)

"""`--output json`: reports and every line on standard error are as docs/*.schema.json say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from schema_migrator import __version__
from support.postgres.databases import RELEASES, Databases, fresh
from support.postgres.engine import Engine
from support.program.command import Completed, finish, run_cli
from support.program.refusals import Refusals
from support.visibility import rewriting
from support.visibility.rewriting import Origin

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
REPORTS, EVENTS = (
    Draft202012Validator(json.loads((DOCS / f"{name}.schema.json").read_text())) for name in ("reports", "events")
)


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Return a visibility store with rows below the newest version, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.12", 300)


def checked(done: Completed) -> list[dict[str, Any]]:
    """Return the events; see that they and the report are as the schemas say, and how the first and last are."""
    if done.stdout:
        found_wrong = best_match(REPORTS.iter_errors(json.loads(done.stdout)))
        assert found_wrong is None, found_wrong
    found = [json.loads(line) for line in done.stderr.splitlines()]
    for event in found:
        assert best_match(EVENTS.iter_errors(event)) is None, event
    assert found[-1]["event"] == "run.ended"
    assert found[-1]["exit_code"] == done.code
    return found


@pytest.mark.parametrize("schema", [REPORTS, EVENTS])
def test_the_schemas_are_schemas(schema: Draft202012Validator) -> None:
    """They are valid themselves."""
    Draft202012Validator.check_schema(schema.schema)


def test_each_command(databases: Databases) -> None:
    """From nothing to an upgrade; the first event says what is to be done where."""
    env = databases.env() | {"SCHEMA_MIGRATOR_OUTPUT": "json", "SCHEMA_MIGRATOR_LOG_LEVEL": "debug"}
    old = env | {"TEMPORAL_VERSION": "1.29.1"}
    for variables, args in (
        (env, ("releases",)),
        (env, ("create-database",)),
        (env, ("status",)),
        (env, ("plan",)),
        (old, ("migrate",)),
        (env, ("plan",)),
        (env, ("migrate",)),
        (env, ("migrate", "--abandon")),
        (env, ("status",)),
        (env, ("verify",)),
        (env, ("wait", "--for", "database,schema")),
    ):
        done = run_cli(variables, *args)
        assert done.code == 0, done.stderr
        first = checked(done)[0]
        assert first["event"] == "run.started"
        if args == ("plan",):
            assert (first["version"], first["command"], first["release"]) == (__version__, "plan", "1.32.2")
            assert first["files"] == str(RELEASES / "1.32.2")
            assert first["stores"][1] == {
                "store": "visibility",
                "target": "1.14",
                "database": databases.visibility,
                "host": databases.host,
                "port": databases.port,
                "role": databases.user,
                "schema": None,
            }


def test_an_online_rewrite(origin: Origin) -> None:
    """Its events hold numbers as numbers, and a plan of it what it checks."""
    database = origin.copy()
    env = origin.env(database) | {"SCHEMA_MIGRATOR_OUTPUT": "json", "SCHEMA_MIGRATOR_HEARTBEAT": "0.01"}
    assert checked(run_cli(env, "plan", *rewriting.ONLINE))
    options = ("--output", "json", "--heartbeat", "0.01", "--log-level", "debug")
    done = finish(origin.migrate(database, *rewriting.ONLINE, *options))
    assert done.code == 0, done.stderr
    assert "Decimal" not in done.stderr
    names = {event["event"] for event in checked(done)}
    assert {"online.started", "online.verified", "online.phase_entered", "online.budgets"} <= names


def test_a_held_cutover(origin: Origin) -> None:
    """What waits, what it says, and what `rewrite` and `status` show of it."""
    database = origin.copy()
    env = origin.env(database) | {"SCHEMA_MIGRATOR_OUTPUT": "json"}
    held = run_cli(env, "migrate", *rewriting.ONLINE, "--hold-cutover", "--hold-timeout", "1")
    assert (held.code, "online.holding" in [event["event"] for event in checked(held)]) == (35, True), held.stderr
    for args in (("rewrite", "status"), ("status",)):
        shown = run_cli(env, *args)
        checked(shown)
        assert (shown.code, '"phase": "waiting for the cutover"' in shown.stdout) == (0, True), shown.stderr
    done = run_cli(env, "migrate", *rewriting.ONLINE, "--cutover-window", "00:00-23:59")
    assert (done.code, "online.released" in [event["event"] for event in checked(done)]) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("args", "changes", "code", "kind"),
    [
        (("--nix",), {}, 2, "settings_error"),
        ((), {"SQL_PORT": "x"}, 2, "settings_error"),
        ((), {"TEMPORAL_VERSION": "0.1"}, 2, "source_error"),
        ((), {"SQL_PORT": "1"}, 1, "database_unavailable"),
        ((), {"SQL_PASSWORD": "no"}, 10, "password_rejected"),
    ],
)
def test_errors(refusals: Refusals, args: tuple[str, ...], changes: dict[str, str], code: int, kind: str) -> None:
    """A refusal is an event for each store, with its kind and its code, before the last one."""
    done = refusals.run(code, "--output", "json", *args, **changes)
    failed = [event for event in checked(done) if event["event"] == "run.failed"]
    assert {(event["kind"], event["exit_code"]) for event in failed} == {(kind, code)}
    assert [event["store"] for event in failed] == (["default", "visibility"] if code in (1, 10) else [None])
    assert all(event["found"] for event in failed)


def test_a_verdict_that_fails(databases: Databases) -> None:
    """The report is on standard output as always, the error beside the events."""
    env = databases.env() | {"SCHEMA_MIGRATOR_OUTPUT": "json", "SCHEMA_MIGRATOR_STORES": "visibility"}
    assert run_cli(env, "migrate").code == 0
    with databases.connect("visibility") as connection:
        connection.execute("ALTER TABLE executions_visibility DROP COLUMN encoding")
    done = run_cli(env, "verify")
    assert done.code == 23
    (failed,) = [event for event in checked(done) if event["event"] == "run.failed"]
    assert failed["kind"] == "not_as_rehearsed"
    assert json.loads(done.stdout)["stores"][0]["equal"] is False

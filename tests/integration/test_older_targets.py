"""Targets below what the servers need: refused unless that is said twice, and never called ready."""

import json

import pytest

from support.postgres.databases import Databases
from support.program.command import run_cli
from support.program.refusals import Refusals, errors

PINNED = {
    "TEMPORAL_VERSION": "1.31.5",
    "DEFAULT_TARGET_VERSION": "1.18",
    "VISIBILITY_TARGET_VERSION": "1.9",
    "SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "",
}
SENTENCE = (
    "error: DEFAULT_TARGET_VERSION is 1.18 and VISIBILITY_TARGET_VERSION is 1.9, but servers of release 1.31.5 need"
    " 1.19 and 1.14 and will not start on less; unset it, or set TEMPORAL_VERSION to the version of the servers;"
    " if that version needs no more, set SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS=true too"
)


@pytest.mark.parametrize("command", ["migrate", "plan"])
def test_refused_unless_said_twice(refusals: Refusals, command: str) -> None:
    """The server version was raised and the pinned targets were forgotten: nothing is contacted."""
    assert refusals.refused(2, command=command, **PINNED) == [SENTENCE]


def test_said_twice(refusals: Refusals, databases: Databases) -> None:
    """Then the targets count, for wait and status too."""
    twice = PINNED | {"SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "true"}
    refusals.migrate(**twice)
    for args in (("wait", "--for", "schema"), ("status", "--check")):
        done = run_cli(databases.env() | twice, *args)
        assert done.code == 0, done.stderr


def test_what_the_servers_need(refusals: Refusals, databases: Databases) -> None:
    """At the pinned targets nothing is ready for the newer servers, and the sentence says what they need."""
    refusals.migrate(TEMPORAL_VERSION="1.29.1")
    env = databases.env() | PINNED
    looked = run_cli(env, "status", "--check", "--output", "json")
    assert looked.code == 25
    found = json.loads(looked.stdout)["stores"]
    assert [(status["target"], status["required"], status["up_to_date"]) for status in found] == [
        ("1.18", "1.19", False),
        ("1.9", "1.14", False),
    ]
    assert errors(looked)[-1] == (
        "error: the default store needs 1.19 and the visibility store needs 1.14 for servers of release 1.31.5,"
        " which do not start at the configured target; unset the target version, or raise it, and run schema-migrator"
        " migrate"
    )
    shown = run_cli(env, "status")
    assert shown.code == 0
    assert "at target, but servers of release 1.31.5 need 1.14 and will not start" in " ".join(shown.stdout.split())
    waited = run_cli(env | {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "1"}, "wait", "--for", "schema", "--store", "default")
    assert waited.code == 1
    assert "is not at 1.19 or above: version 1.18 is recorded" in waited.stderr
    assert "DEFAULT_TARGET_VERSION is 1.18, below what servers of release 1.31.5 need" in waited.stderr


def test_a_release_of_its_own_is_no_older_target(refusals: Refusals, databases: Databases) -> None:
    """A target that is the release's own may be named, and a store above it is ready."""
    refusals.migrate()
    own = {**PINNED, "TEMPORAL_VERSION": "1.29.1"}
    assert run_cli(databases.env() | own, "migrate").code == 0
    assert run_cli(databases.env() | own, "status", "--check").code == 0

"""A backup is required before a store that is in use is changed, and asked for at no other time."""

import json
import sys

from support.postgres.databases import Databases
from support.program.command import run_cli
from support.program.refusals import Refusals
from support.program.store_driver import site

WITHIN, COMMAND = "SCHEMA_MIGRATOR_REQUIRE_BACKUP_WITHIN", "SCHEMA_MIGRATOR_BACKUP_COMMAND"


def ago(seconds: int) -> dict[str, str]:
    """Return the variables that require a backup of a day, and report one of this age."""
    return {WITHIN: "24h", COMMAND: f'{sys.executable} -c "import time; print(time.time() - {seconds})"'}


def test_no_backup(refusals: Refusals) -> None:
    """An old one is refused before anything is changed, with its code; a command that fails can be tried again."""
    refusals.migrate(TEMPORAL_VERSION="1.29.1")
    (line,) = refusals.refused(36, **ago(90_000))
    assert ", 25.0 hours ago, expected one that is at most 1d old (--require-backup-within); make a backup" in line
    (line,) = refusals.refused(1, **ago(0) | {COMMAND: "false"})
    assert line == f'error: {COMMAND}: "false" failed with exit code 1; run it by hand and read its output'
    (line,) = refusals.refused(36, **ago(0) | {COMMAND: "true"})
    assert line.startswith(f"error: {COMMAND} printed nothing: there is no backup; ")


def test_a_backup(databases: Databases) -> None:
    """An installation needs none; an upgrade asks for one and tells which; with nothing to do nobody asks."""
    site(databases, "default").install(release="1.29.1")
    env = databases.env() | {"SCHEMA_MIGRATOR_OUTPUT": "json"} | ago(100)
    nothing = env | {COMMAND: "false"}
    first = run_cli(nothing, "migrate", "--store", "visibility")
    assert first.code == 0, first.stderr
    done = run_cli(env, "migrate")
    assert done.code == 0, done.stderr
    (found,) = [event for event in map(json.loads, done.stderr.splitlines()) if event["event"] == "backup.found"]
    default, visibility = json.loads(done.stdout)["stores"]
    assert default["backup"] == found["time"]
    assert (default["point_of_return"] is None, visibility["point_of_return"]) == (False, None)
    assert run_cli(nothing, "migrate").code == 0

"""What counts as a backup that is new enough, and what the command may do."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from schema_migrator.commands import backup
from schema_migrator.config.settings import read
from schema_migrator.diagnosis.state import Absent, State
from schema_migrator.errors import BackupUnknown, MigratorError, NoBackup, SettingsError
from support.program.factories import at, planned

pytestmark = pytest.mark.usefixtures("clean")
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SECRET = "s3cret"
NAME = "SCHEMA_MIGRATOR_BACKUP_COMMAND"
MAKE = "make a backup and run it again, or raise --require-backup-within"
FORMS = "a time in ISO 8601 with a time zone, or the seconds since 1970"

TIMES = {
    "2026-11-28T03:00:00Z\n": datetime(2026, 11, 28, 3, tzinfo=UTC),
    "2026-11-28T03:00:00.5+00:00": datetime(2026, 11, 28, 3, 0, 0, 500_000, tzinfo=UTC),
    "  2026-11-28 04:00:00+01\n": datetime(2026, 11, 28, 3, tzinfo=UTC),
    "1795834800": datetime(2026, 11, 28, 3, tzinfo=UTC),
    "1795834800.25\n": datetime(2026, 11, 28, 3, 0, 0, 250_000, tzinfo=UTC),
    "2026-11-27T12:00:00Z": NOW - DAY,
    "2026-11-28T12:04:59Z": NOW + timedelta(seconds=299),
}


@pytest.mark.parametrize("printed", TIMES)
def test_a_time(printed: str) -> None:
    """Both forms, with white space around them; as old as may be, and a little fast."""
    assert backup.judged(printed.encode(), NOW, DAY) == TIMES[printed]


REFUSED = {
    "": f"{NAME} printed nothing: there is no backup; {MAKE}",
    "\n": f"{NAME} printed nothing: there is no backup; {MAKE}",
    "2026-11-27T11:59:00Z": (
        "the newest backup is from 2026-11-27T11:59:00+00:00, 24.0 hours ago, expected one that is at most 1d old"
        f" (--require-backup-within); {MAKE}"
    ),
    "2026-11-29T00:00:00Z": (
        f"{NAME} printed 2026-11-29T00:00:00+00:00, which is in the future, expected the time of a finished backup;"
        " correct the command, or the clock of this machine"
    ),
}
NO_TIME = f"{NAME} did not print a time, expected {FORMS}; run it by hand and read its output"
NO_TIMES = (
    b"2026-11-28T03:00:00",  # of which zone?
    b"2026-11-28",
    b"1795834800000",  # milliseconds
    b"17958348",
    b"1795834800\n1795834801",
    b"-1795834800",
    b"0001-01-01T00:00:00+23:59",
    SECRET.encode(),
    b"\xff\xfe",
)


@pytest.mark.parametrize("printed", REFUSED)
def test_no_backup(printed: str) -> None:
    """The refusal says what there is, and what to do."""
    with pytest.raises(NoBackup) as refused:
        backup.judged(printed.encode(), NOW, DAY)
    assert (str(refused.value), refused.value.exit_code) == (REFUSED[printed], 36)


@pytest.mark.parametrize("printed", NO_TIMES)
def test_no_time(printed: bytes) -> None:
    """What is not one time counts as no backup, and is not shown."""
    with pytest.raises(NoBackup) as refused:
        backup.judged(printed, NOW, DAY)
    assert str(refused.value) == NO_TIME


def asked(patch: pytest.MonkeyPatch, command: str, state: State | None = None, **plan: Any) -> datetime | None:  # noqa: ANN401 - see factories.planned
    """Return the answer for a run that would change a store from a state."""
    patch.setenv(NAME, command)
    patch.setenv("SCHEMA_MIGRATOR_REQUIRE_BACKUP_WITHIN", "24h")
    return backup.assert_fresh(read({}).run, [planned(state or at("1.8"), **plan)])


def python(code: str) -> str:
    """Return a command line that runs Python code without double quotes."""
    return f'{sys.executable} -c "{code}"'


def test_a_backup(clean: pytest.MonkeyPatch) -> None:
    """Its time is returned, and logged with its age."""
    with structlog.testing.capture_logs() as logs:
        finished = asked(clean, python("import time; print(int(time.time()) - 60)"))
    assert finished is not None
    (event,) = logs
    assert (event["event"], event["time"], event["limit"]) == ("backup.found", finished.isoformat(), 86400)
    assert 60 <= event["seconds"] < 3600


@pytest.mark.parametrize("state", [Absent(), at("0.0", "0.0"), at("1.9")])
def test_nothing_to_save(clean: pytest.MonkeyPatch, state: State) -> None:
    """A store that is not in use yet, or at its target, needs no backup: the command does not run."""
    assert asked(clean, "/no/such", state, target="1.9") is None


FAILURES: dict[str, tuple[type[MigratorError], str]] = {
    "/no/such --token s3cret": (
        SettingsError,
        f'{NAME} cannot run "/no/such" (No such file or directory); correct {NAME}',
    ),
    "cat 's3cret": (SettingsError, f"{NAME} is not a command line (no closing quotation); correct {NAME}"),
    python("import sys; print('s3cret'); sys.exit('s3cret')"): (
        BackupUnknown,
        f'{NAME}: "{sys.executable}" failed with exit code 1; run it by hand and read its output',
    ),
    "cat /dev/zero": (
        BackupUnknown,
        f'{NAME}: "cat" printed more than 1 MB; run it by hand and read its output',
    ),
    "sleep 60": (BackupUnknown, f'{NAME}: "sleep" ran longer than 0.2 s; run it by hand and read its output'),
}


@pytest.mark.parametrize("command", FAILURES)
def test_a_command_that_fails(clean: pytest.MonkeyPatch, command: str) -> None:
    """Wrong settings are input; a command that fails or hangs may succeed later. Nothing that it was given is shown."""
    kind, sentence = FAILURES[command]
    clean.setattr(backup, "_SECONDS", 0.2 if command == "sleep 60" else 60)
    with pytest.raises(kind) as refused:
        asked(clean, command)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("name", [NAME, "SCHEMA_MIGRATOR_REQUIRE_BACKUP_WITHIN"])
def test_one_without_the_other(clean: pytest.MonkeyPatch, name: str) -> None:
    """A limit without a command, or a command without a limit, would check nothing."""
    clean.setenv(name, "24h")
    with pytest.raises(SettingsError) as refused:
        read({})
    assert str(refused.value) == (
        "only one of --require-backup-within and --backup-command is set, expected both or none; set the other one too"
    )

"""Asks --backup-command for the newest backup, before `migrate` changes a store. Nothing here makes a backup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.config import durations, programs
from schema_migrator.config.fields import PREFIX
from schema_migrator.errors import BackupUnknown, NoBackup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema_migrator.config.fields import RunSettings
    from schema_migrator.planning.plan import Plan

_NAME = f"{PREFIX}BACKUP_COMMAND"
_SECONDS = 60
_SKEW = timedelta(minutes=5)  # between the clock of this machine and that of whatever makes the backups
_EPOCH = re.compile(r"[0-9]{9,10}(\.[0-9]+)?")
_FORMS = "a time in ISO 8601 with a time zone, or the seconds since 1970"
_MAKE = "make a backup and run it again, or raise --require-backup-within"


def assert_fresh(run: RunSettings, plans: Iterable[Plan]) -> datetime | None:
    """Return when the newest backup was finished, None if no backup is required.

    A backup is required before something changes in a store that has tables. Raises NoBackup if there is none that is
    new enough, BackupUnknown if the command fails, SettingsError if it cannot be started.
    """
    within, command = run.require_backup_within, run.backup_command
    if within is None or command is None or not any(plan.changes and not plan.fresh for plan in plans):
        return None
    printed = programs.output(programs.split(command, _NAME), _NAME, seconds=_SECONDS, failure=BackupUnknown)
    now = datetime.now(UTC)
    finished = judged(printed, now, within)
    events.logger().info(
        "backup.found",
        time=finished.isoformat(),
        seconds=round((now - finished).total_seconds()),
        limit=round(within.total_seconds()),
    )
    return finished


def judged(printed: bytes, now: datetime, within: timedelta) -> datetime:
    """Return the time that the command has printed. Raises NoBackup unless it is at most `within` before `now`.

    The error shows a time, but no other output: that could contain a secret.
    """
    text = printed.decode(errors="replace").strip()
    if not text:
        raise NoBackup(f"{_NAME} printed nothing: there is no backup", hint=_MAKE)
    finished = _moment(text)
    if finished is None:
        raise NoBackup(f"{_NAME} did not print a time, expected {_FORMS}", hint="run it by hand and read its output")
    if finished > now + _SKEW:
        raise NoBackup(
            f"{_NAME} printed {finished.isoformat()}, which is in the future, expected the time of a finished backup",
            hint="correct the command, or the clock of this machine",
        )
    if now - finished > within:
        hours = (now - finished).total_seconds() / 3600
        raise NoBackup(
            f"the newest backup is from {finished.isoformat()}, {hours:.1f} hours ago, expected one that is at most"
            f" {durations.text(within)} old (--require-backup-within)",
            hint=_MAKE,
        )
    return finished


def _moment(text: str) -> datetime | None:
    """Return the time that a text names, in UTC; None if it names none, or has no time zone."""
    if _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(float(text), UTC)
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None

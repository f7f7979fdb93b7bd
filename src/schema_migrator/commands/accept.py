"""`verify --write-accepted`: writes the file of accepted differences for what the verdicts found."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.config import accepted
from schema_migrator.diagnosis import acceptance
from schema_migrator.diagnosis.acceptance import Judged
from schema_migrator.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.catalog.snapshot import Change
    from schema_migrator.config.accepted import AcceptedDifference
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.verdict import Verdict
    from schema_migrator.releases.source import Store

FLAG = "--write-accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A difference that no entry can accept."""

    store: Store
    change: Change


def check(path: Path, reason: str, settings: Settings) -> None:
    """Raise SettingsError if the file exists and is not the one that the settings name: its reasons would be lost.

    Also raise it if the reason is no text, or the file's name none that the system takes.
    """
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise SettingsError("--reason is not UTF-8 text", hint="correct --reason") from None
    try:
        lost = path.exists() and not (settings.run.accepted and path.samefile(settings.run.accepted))
    except OSError as error:  # such as a name that is too long
        raise _unwritable(path, error) from error
    if lost:
        raise SettingsError(
            f'{FLAG} "{path}" exists already',
            hint="to keep its reasons, name it by --accepted too; to begin again, remove it",
        )


def write(path: Path, reason: str, settings: Settings, verdicts: Sequence[Verdict]) -> tuple[Refused, ...]:
    """Write the file, and return the differences that no entry can accept.

    Entries of stores that were not verified stay as they are. An entry without a `reason` makes the file one that
    nothing reads before somebody has written the reason. Raises SettingsError if the file cannot be written.
    """
    verified = {verdict.store for verdict in verdicts}
    entries = [entry for entry in settings.accepted if entry.store not in verified]
    refused: list[Refused] = []
    for verdict in verdicts:
        own, left = acceptance.proposed(_judged(verdict), verdict.vital, verdict.store, reason)
        entries += own
        refused += [Refused(store=verdict.store, change=change) for change in left]
    _replace(path, accepted.written(sorted(entries, key=_order)))
    without = sum(not entry.reason for entry in entries)
    events.logger().info("acceptance.written", file=str(path), entries=len(entries), without_reason=without)
    return tuple(refused)


def _judged(verdict: Verdict) -> Judged:
    return Judged(difference=verdict.difference, accepted=verdict.accepted, unused=verdict.unused)


def _order(entry: AcceptedDifference) -> tuple[str, str]:
    return entry.store, entry.object


def _replace(path: Path, text: str) -> None:
    """Write a file as a whole, or leave the one that is there."""
    made: Path | None = None
    try:
        folder, prefix = path.absolute().parent, f".{path.name}."
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, prefix=prefix, delete=False) as file:
            made = Path(file.name)
            file.write(text)
        made.chmod(0o644)
        made.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if made:
            with suppress(OSError):  # it has its name by now, unless something failed
                made.unlink()


def _unwritable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f'{FLAG} "{path}" cannot be written ({error.strerror})',
        hint="name a file in a folder that this program may write to",
    )

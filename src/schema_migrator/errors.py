"""Every failure that a person can meet, with its exit code.

MigratorError
├── InputError            2   wrong before connecting
│   ├── SettingsError
│   ├── SharedDatabase
│   ├── SourceError
│   └── TargetError
├── RetryableError        1   worth another try
│   ├── DatabaseUnavailable
│   ├── ConnectionLost
│   ├── SchemaBehind
│   ├── FrontendUnavailable
│   ├── CommitUnconfirmed
│   ├── TableLockTimeout
│   ├── ServerBusy
│   ├── TableChanged
│   ├── StatementTimeout
│   ├── ToolFailed
│   ├── NoVersion
│   └── LockLost
├── RefusedError          3   a person must settle it
│   ├── PasswordRejected
│   ├── TlsRejected
│   ├── PreflightFailed
│   ├── LockTooLong
│   ├── WrongStore
│   ├── UnknownState
│   ├── VersionMoved
│   ├── RewriteBlocked
│   ├── NotAsRehearsed
│   ├── NoSpace
│   ├── DoesNotFit
│   ├── NotAtTarget
│   ├── FrontendRefused
│   ├── NamespaceMissing
│   ├── NamespaceRefused
│   │   ├── NotThere
│   │   └── AlreadyThere
│   └── StatementFailed
├── LockHeld              4   another run holds the advisory lock
├── Stopped               143 or 130
└── SeveralErrors         the gravest of its parts
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class MigratorError(Exception):
    """What was found and what was expected (`message`), and what to do about it (`hint`).

    `detail` are lines that belong below: a list, or a place in a file.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str = "", store: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.store = store
        self.detail = detail

    def __str__(self) -> str:
        said = f"{self.message}; {self.hint}" if self.hint else self.message
        return "\n".join(filter(None, [f"{self.store}: {said}" if self.store else said, self.detail]))


class InputError(MigratorError):
    """Something is wrong with what the program was given; nothing in a database was touched."""

    exit_code = 2


class SettingsError(InputError):
    """A flag or variable is missing, unknown or has a value that cannot be used."""


class SharedDatabase(InputError):
    """Both stores' settings lead to one database."""


class SourceError(InputError):
    """A release's files are missing or broken."""


class TargetError(InputError):
    """The target is no version, or no version of the release."""


class RetryableError(MigratorError):
    """The same command may succeed later."""

    exit_code = 1


class DatabaseUnavailable(RetryableError):
    """The database did not answer, or did not exist, until the deadline."""


class ConnectionLost(RetryableError):
    """The connection broke during the work; the open transaction was rolled back."""


class SchemaBehind(RetryableError):
    """A schema did not reach the version that a server expects until the deadline."""


class FrontendUnavailable(RetryableError):
    """Temporal's frontend did not answer, or was not ready, until the deadline."""


class CommitUnconfirmed(RetryableError):
    """A commit is done, and no synchronous standby has confirmed it until the deadline."""


class TableLockTimeout(RetryableError):
    """Other sessions kept a table locked until the deadline."""


class ServerBusy(RetryableError):
    """A replica that is behind, or the server's load, kept an online rewrite from beginning or going on."""


class TableChanged(RetryableError):
    """A table was truncated or altered by somebody while it was written anew online; no trace of that is left."""


class StatementTimeout(RetryableError):
    """A statement ran longer than it was allowed to."""


class ToolFailed(RetryableError):
    """The vendor's tool did not bring the database to the version it was asked for."""


class NoVersion(RetryableError):
    """The drop-in's describe-schema: no version is recorded."""


class LockLost(RetryableError):
    """The advisory lock went away during the work; the open transaction was rolled back."""


class RefusedError(MigratorError):
    """Something in the database must be settled by a person; it was left as it was."""


class PasswordRejected(RefusedError):
    """The server does not accept the role or its password."""


class TlsRejected(RefusedError):
    """The server's certificate or ours is not accepted, or one side does without TLS."""


class PreflightFailed(RefusedError):
    """Rights or features that the plan needs are missing."""


class LockTooLong(RefusedError):
    """A step would keep a table locked for longer than --max-lock-seconds, or for nobody knows how long."""


class WrongStore(RefusedError):
    """The database holds the tables of the other store."""


class UnknownState(RefusedError):
    """The schema is at no version that the release's files explain."""


class VersionMoved(RefusedError):
    """Someone changed the version between our reading it and our writing it."""


class RewriteBlocked(RefusedError):
    """Something that forbids an online rewrite came while it ran; the unfinished copy is kept until that is settled."""


class NotAsRehearsed(RefusedError):
    """A step's result, or a whole schema, is not what the release's files make."""


class NoSpace(RefusedError):
    """The server's disk is too full for what is to be done."""


class DoesNotFit(RefusedError):
    """A row's values do not fit a column or a check of the new version."""


class NotAtTarget(RefusedError):
    """With --check: a store is not at its target."""


class FrontendRefused(RefusedError):
    """Temporal's frontend does not let us in, or what answers is none."""


class NamespaceMissing(RefusedError):
    """With --check: a namespace does not exist."""


class NamespaceRefused(RefusedError):
    """The frontend does not take a namespace as it is wanted."""


class NotThere(NamespaceRefused):
    """The frontend says that there is no such thing."""


class AlreadyThere(NamespaceRefused):
    """The frontend says that there is such a thing already."""


class StatementFailed(RefusedError):
    """A statement of the release failed; its transaction was rolled back."""


class LockHeld(MigratorError):
    """Another run held the advisory lock until the deadline."""

    exit_code = 4


class Stopped(MigratorError):
    """A signal ended the run; what was not committed was rolled back."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped by a signal, everything uncommitted was rolled back", hint="run it again")
        self.signal_number = signal_number


class SeveralErrors(MigratorError):
    """More than one store failed."""

    def __init__(self, parts: tuple[MigratorError, ...]) -> None:
        super().__init__("\n".join(str(part) for part in parts))
        self.parts = parts


_GRAVEST_FIRST = (3, 2, 4, 1)


def exit_code(error: MigratorError) -> int:
    """Return the process's exit code; of several errors the one that a retry cures least."""
    if isinstance(error, Stopped):
        return 128 + error.signal_number
    if isinstance(error, SeveralErrors):
        codes = {exit_code(part) for part in error.parts}
        return next((code for code in _GRAVEST_FIRST if code in codes), max(codes))
    return error.exit_code


def gravest(errors: Sequence[MigratorError]) -> MigratorError:
    """Return the one that a retry cures least; of several such the first."""
    return min(errors, key=lambda error: (*_GRAVEST_FIRST, exit_code(error)).index(exit_code(error)))


def combine(errors: list[MigratorError]) -> MigratorError:
    """Make one error of those of the stores."""
    stops = [error for error in errors if isinstance(error, Stopped)]
    if stops:
        return stops[0]
    return errors[0] if len(errors) == 1 else SeveralErrors(tuple(errors))

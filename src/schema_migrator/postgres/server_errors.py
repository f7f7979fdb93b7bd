"""Translates psycopg's exceptions into our errors, by SQLSTATE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from schema_migrator.errors import (
    ConnectionLost,
    MigratorError,
    NoSpace,
    PreflightFailed,
    ServerBusy,
    StatementFailed,
    StatementTimeout,
    TableLockTimeout,
)
from schema_migrator.postgres.connect_failures import refusal
from schema_migrator.postgres.session_settings import LOOK, OUR_PATH
from schema_migrator.releases.statements import point_at

if TYPE_CHECKING:
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.releases.statements import Statement

_LOST = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_CONTENDED = ("55P03", "40P01", "40001")
_DETAIL = 200  # characters of the server's detail, which can contain a whole row
OWN_LIMIT = (
    f"a query of this kind has its own limit, {LOOK.statement:g} s per statement: run this again when"
    " the server is less busy"
)
"""The note on errors of a look or a rehearsal, to which SCHEMA_MIGRATOR_STATEMENT_TIMEOUT does not apply."""
_SLOW = "raise SCHEMA_MIGRATOR_STATEMENT_TIMEOUT, or the role's own statement_timeout"
_LOCKED = (TableLockTimeout, "other sessions held a lock on a table: {text}", "run it again")
_MEANINGS: dict[str, tuple[type[MigratorError], str, str]] = {
    **dict.fromkeys(_CONTENDED, _LOCKED),
    "57014": (StatementTimeout, "a statement was cancelled: {text}", _SLOW),
    "25006": (PreflightFailed, "{address} is read-only: {text}", "connect to the primary server"),
    "42501": (
        PreflightFailed,
        "the role lacks a privilege at {address}: {text}",
        "grant it, or make the role the object's owner",
    ),
    "53100": (NoSpace, "the server's disk is full: {text}", "free disk space there, then run this again"),
    "53200": (
        ServerBusy,
        "the server at {address} is out of memory: {text}",
        "run it again when the server has more memory, or lower maintenance_work_mem or work_mem for the role",
    ),
}
"""The error class, message and hint for an SQLSTATE."""
_FUNCTION = re.compile(r"^PL/pgSQL function (?!inline_code_block)(.+) line \d+ at ", re.MULTILINE)
_CORRECT = (
    f"correct that function, which ran with search_path = {OUR_PATH}, so it must name schemas itself; "
    "or disable its trigger while this runs"
)
_HINTS = {
    "53400": 'raise that limit for the role, as a superuser: ALTER ROLE "{role}" SET temp_file_limit = -1',
}
"""The hint for a failed statement, by SQLSTATE."""
_SHARED_MEMORY = "dsm_impl.c"
_ENLARGE = (
    "enlarge /dev/shm on the server (docker run --shm-size; in Kubernetes a volume with medium: Memory), or avoid"
    ' its use: ALTER ROLE "{role}" SET max_parallel_maintenance_workers = 0; then run this again'
)


def blame(statement: Statement, error: psycopg.Error) -> Exception:
    """Return a StatementFailed that shows the statement, or the error itself if the statement is not to blame."""
    if not error.sqlstate or error.sqlstate.startswith((*_LOST, *_MEANINGS)) or _raced(error):
        return error
    position = error.diag.statement_position
    where = (
        point_at(statement, int(position)) if position else f"{statement.file}:{statement.line}\n  {statement.summary}"
    )
    more = (error.diag.message_detail or "").removesuffix(".")
    detail = f" ({more[:_DETAIL]}{'...' if len(more) > _DETAIL else ''})" if more else ""
    return StatementFailed(
        f"PostgreSQL refused a statement ({error.sqlstate}): {error.diag.message_primary}{detail}",
        hint="nothing of its transaction remains",
        detail=where,
    )


@contextmanager
def translated(settings: StoreSettings, interrupt: Interrupt) -> Iterator[None]:
    """Turn the block's psycopg errors into ours, by SQLSTATE. Raises Stopped if a signal has arrived."""
    try:
        yield
    except psycopg.Error as error:
        interrupt.check()
        found = explain(error, settings)
        found.store = settings.store
        raise found from error


def _raced(error: psycopg.Error) -> bool:
    """Whether another session created or changed the same object at the same moment: a retry will see its result."""
    of_catalog = error.sqlstate == "23505" and error.diag.schema_name == "pg_catalog"
    return of_catalog or (error.diag.message_primary or "").startswith("tuple concurrently ")


def _lost(error: psycopg.Error) -> bool:
    """Whether the connection broke. A plain DatabaseError has no SQLSTATE: libpq itself made it."""
    broken = isinstance(error, psycopg.OperationalError) or type(error) is psycopg.DatabaseError
    return (error.sqlstate or "").startswith(_LOST) or (broken and error.sqlstate is None)


def explain(error: psycopg.Error, settings: StoreSettings) -> MigratorError:
    """Return our error for a psycopg error."""
    state, text = error.sqlstate or "", error.diag.message_primary or refusal(error)[1]
    running = _FUNCTION.search(error.diag.context or "")  # it is the user's: we have no function in this language
    if running:
        text += f" (in {running[1]})"
    if _lost(error):
        return ConnectionLost(f"the connection to {settings.address} broke: {text}", hint="run it again")
    if error.diag.source_file == _SHARED_MEMORY:  # PostgreSQL reports it as a full disk
        return StatementFailed(
            f"the shared memory of the server at {settings.address} is too small: {text}",
            hint=_ENLARGE.format(role=settings.user),
        )
    if _raced(error):
        return TableLockTimeout(
            f"another session created the same object at the same time: {text}", hint="run it again"
        )
    if state in _MEANINGS:
        kind, message, hint = _MEANINGS[state]
        hint = OWN_LIMIT if hint == _SLOW and OWN_LIMIT in getattr(error, "__notes__", ()) else hint
        hint = _CORRECT if running and kind is PreflightFailed else hint
        return kind(message.format(address=settings.address, text=text), hint=hint)
    hint = _CORRECT if running else _HINTS.get(state, "").format(role=settings.user)
    return StatementFailed(f"PostgreSQL refused a statement at {settings.address} ({state}): {text}", hint=hint)

"""Transactions, statements and the errors of psycopg."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import RowFactory, tuple_row

from schema_migrator import events
from schema_migrator.errors import (
    CommitUnconfirmed,
    ConnectionLost,
    MigratorError,
    NoSpace,
    PreflightFailed,
    StatementFailed,
    StatementTimeout,
    TableLockTimeout,
)
from schema_migrator.postgres.connect_failures import refusal
from schema_migrator.postgres.connection import Connection, connect
from schema_migrator.postgres.conninfo import APPLICATION, PROGRAM
from schema_migrator.postgres.session_settings import LOOK, OUR_PATH, ROLES_OWN, SAFE_PATH, SETTINGS, Limits, settings
from schema_migrator.releases.statements import point_at

if TYPE_CHECKING:
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.releases.statements import Statement

__all__ = [
    "APPLICATION",
    "LOOK",
    "OWN_LIMIT",
    "PROGRAM",
    "Batch",
    "Connection",
    "Limits",
    "ask",
    "batch",
    "blame",
    "configure",
    "connect",
    "explain",
    "path_of",
    "planner",
    "session",
    "settings",
    "store_path",
    "transaction",
    "translated",
]

_LOST = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_CANCELLED_WAIT = "01000"
_CANCEL_SECONDS = 5.0
_CONTENDED = ("55P03", "40P01", "40001")
_DETAIL = 200  # characters of what the server adds: a whole row can be among it
OWN_LIMIT = (
    f"a look has a limit of its own, {LOOK.statement:g} s a statement: run this again when the server has less to do"
)
"""The note on an error of a look or a rehearsal, to which SCHEMA_MIGRATOR_STATEMENT_TIMEOUT does not apply."""
_SLOW = "raise SCHEMA_MIGRATOR_STATEMENT_TIMEOUT, or the role's own statement_timeout"
_LOCKED = (TableLockTimeout, "other sessions kept a table locked: {text}", "run it again")
_MEANINGS: dict[str, tuple[type[MigratorError], str, str]] = {
    **dict.fromkeys(_CONTENDED, _LOCKED),
    "57014": (StatementTimeout, "a statement was cancelled: {text}", _SLOW),
    "25006": (PreflightFailed, "{address} is read-only: {text}", "connect to the primary server"),
    "42501": (PreflightFailed, "the role lacks a right at {address}: {text}", "grant it, or own the object"),
    "53100": (NoSpace, "the server's disk is full: {text}", "make room there, then run this again"),
}
"""What an SQLSTATE means: the error, its sentence, and what to do."""
_FUNCTION = re.compile(r"^PL/pgSQL function (?!inline_code_block)(.+) line \d+ at ", re.MULTILINE)
_CORRECT = (
    f"correct that function, which ran with search_path = {OUR_PATH}, so that it has to name schemas itself; "
    "or disable its trigger while this runs"
)
_HINTS = {
    "53400": 'raise that limit for the role, as a superuser: ALTER ROLE "{role}" SET temp_file_limit = -1',
    "53200": "lower maintenance_work_mem or work_mem for the role, or give the server more memory",
}
"""What to do about the SQLSTATE of a statement that failed."""
_SHARED_MEMORY = "dsm_impl.c"
_ENLARGE = (
    "enlarge /dev/shm on the server (docker run --shm-size; in Kubernetes a volume with medium: Memory), or let it do"
    ' without: ALTER ROLE "{role}" SET max_parallel_maintenance_workers = 0; then run this again'
)


class Batch:
    """Statements sent without waiting for their answers, which knows which of them failed.

    `schema` is the one that the vendor's statements work in, and `path` the search_path that they alone see.
    """

    def __init__(self, conn: Connection, schema: str = "", path: str | None = None) -> None:
        self._conn = conn
        self._sent: list[tuple[psycopg.Cursor[Any], Statement | None]] = []
        self.schema = schema
        self.path = path or (path_of(conn, schema) if schema else OUR_PATH)

    def send(self, query: LiteralString | sql.Composed, values: Sequence[object] | None = None) -> psycopg.Cursor[Any]:
        """Send a query of our own."""
        cursor = self._conn.execute(query, values)
        self._sent.append((cursor, None))
        return cursor

    def run(self, statements: Iterable[Statement]) -> None:
        """Send a step's statements, CONCURRENTLY left out."""
        with store_path(self._conn, self.path):
            for statement in statements:
                cursor = self._conn.cursor()
                self._sent.append((cursor, statement))
                cursor.execute(statement.plain.encode())

    def blame(self, error: psycopg.Error) -> Exception:
        """Return the error that shows the statement to blame, or the error itself where none is."""
        failed = next((one for cursor, one in self._sent if cursor.statusmessage is None), None)
        return error if failed is None else blame(failed, error)


@contextmanager
def batch(conn: Connection, schema: str = "", path: str | None = None) -> Iterator[Batch]:
    """Pipeline what the block sends: nothing waits for an answer until a row is fetched."""
    sent = Batch(conn, schema, path)
    try:
        with conn.pipeline():
            yield sent
    except psycopg.Error as error:
        raise sent.blame(error) from error


@contextmanager
def transaction(conn: Connection, schema: str | None, limits: Limits, *, name: str) -> Iterator[Batch]:
    """Run the block in one READ COMMITTED transaction with our settings; the vendor's statements run in `schema`.

    What is set lasts as long as the transaction, so that a pooler's next client sees nothing of it.
    """
    try:
        confirmed = _confirmed(conn, limits.commit) if limits.commit else nullcontext()
        with confirmed as bound, batch(conn, schema or "") as sent:
            conn.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            configure(conn, limits, name)
            yield sent
            if bound:
                bound.start()
            conn.execute("COMMIT")
    except BaseException as error:
        if limits is LOOK:
            error.add_note(OWN_LIMIT)
        with suppress(psycopg.Error):  # a lost connection is rolled back by the server
            conn.rollback()
        raise


@contextmanager
def _confirmed(conn: Connection, seconds: float) -> Iterator[threading.Timer]:
    """Raise CommitUnconfirmed where the block's commit gave up waiting for a synchronous standby.

    It is done on this server then, which PostgreSQL says in a warning alone (source: syncrep.c). No timeout of the
    server's ends that wait; what the block is given, and starts, does.
    """
    bound = threading.Timer(seconds, _give_up, [conn])
    bound.daemon = True
    warnings: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING" and notice.sqlstate == _CANCELLED_WAIT and not notice.context:
            warnings.append(notice.message_primary or "")

    conn.add_notice_handler(note)
    try:
        yield bound
    finally:
        bound.cancel()
        conn.remove_notice_handler(note)
    if warnings and conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        events.logger().warning("commit.unconfirmed", reason=warnings[-1], limit=seconds)
        raise CommitUnconfirmed(
            "the server has committed, but no synchronous standby has confirmed that: it may be lost if this server is",
            hint="see pg_stat_replication and synchronous_standby_names; then run it again: it carries on from there",
        )


def _give_up(conn: Connection) -> None:
    with suppress(psycopg.Error):
        conn.cancel_safe(timeout=_CANCEL_SECONDS)


def path_of(conn: Connection, schema: str) -> str:
    """Return the search_path of the vendor's statements: exactly one schema, beside PostgreSQL's own."""
    return sql.Identifier(schema).as_string(conn)


def ask(
    conn: Connection,
    query: LiteralString | sql.Composed,
    values: Sequence[object] | Mapping[str, object] | None = None,
    *,
    row: RowFactory[Any] = tuple_row,
) -> list[Any]:
    """Return the rows of one query of ours, which runs in a transaction of its own: one round trip."""
    with transaction(conn, None, LOOK, name=APPLICATION):
        cursor = conn.cursor(row_factory=row).execute(query, values)
    return cursor.fetchall()


@contextmanager
def store_path(conn: Connection, path: str, *, local: bool = True) -> Iterator[None]:
    """Let the block's statements see the store's schema, and create tables where the role's own settings say.

    For the vendor's statements, and for definitions that PostgreSQL has written of the store's objects.
    """
    scope = "LOCAL" if local else "SESSION"
    inside = {"search_path": path} | dict.fromkeys(ROLES_OWN, "DEFAULT")
    outside = {"search_path": OUR_PATH} | {name: f"'{SETTINGS[name]}'" for name in ROLES_OWN}
    for name, value in inside.items():
        conn.execute(f"SET {scope} {name} = {value}".encode())
    yield
    for name, value in outside.items():
        conn.execute(f"SET {scope} {name} = {value}".encode())


def blame(statement: Statement, error: psycopg.Error) -> Exception:
    """Return StatementFailed that shows the statement, or the error itself if no statement is to blame."""
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
def session(conn: Connection, limits: Limits, *, name: str) -> Iterator[None]:
    """Run the block, outside any transaction, with our settings for the session; for CONCURRENTLY and VACUUM.

    Their commits wait for no standby: nothing would bound that, and a standby that confirms the record of the step,
    which comes later, has them too.
    """
    configure(conn, limits, name, local=False)
    conn.execute("SET synchronous_commit = local")
    try:
        yield
    finally:
        if not conn.broken:
            conn.execute("RESET ALL")


def configure(conn: Connection, limits: Limits, name: str, *, local: bool = True) -> None:
    """Set what our statements need, for the transaction or for the session."""
    path = SAFE_PATH if local else SAFE_PATH.replace("LOCAL", "SESSION")
    conn.execute(path.encode())
    conn.execute(settings(conn, limits, name, local=local))


@contextmanager
def planner(conn: Connection, **switches: str) -> Iterator[None]:
    """Set planner switches for the block's statements alone, in an open transaction: `seqscan="off"`.

    Every transaction of ours begins with all of them on, so that is what they go back to.
    """
    for name, value in switches.items():
        conn.execute(f"SET LOCAL enable_{name} = {value}".encode())
    yield
    for name in switches:
        conn.execute(f"SET LOCAL enable_{name} = on".encode())


@contextmanager
def translated(settings: StoreSettings, interrupt: Interrupt) -> Iterator[None]:
    """Turn psycopg's errors into ours, by SQLSTATE."""
    try:
        yield
    except psycopg.Error as error:
        interrupt.check()
        found = explain(error, settings)
        found.store = settings.store
        raise found from error


def _raced(error: psycopg.Error) -> bool:
    """Whether another session has made or changed the same object at the same moment: the next try will see it."""
    of_catalog = error.sqlstate == "23505" and error.diag.schema_name == "pg_catalog"
    return of_catalog or (error.diag.message_primary or "").startswith("tuple concurrently ")


def explain(error: psycopg.Error, settings: StoreSettings) -> MigratorError:
    """Return our error for one of psycopg's."""
    state, text = error.sqlstate or "", error.diag.message_primary or refusal(error)[1]
    running = _FUNCTION.search(error.diag.context or "")  # of the user's: we have none in this language
    if running:
        text += f" (in {running[1]})"
    if (not state and isinstance(error, psycopg.OperationalError)) or state.startswith(_LOST):
        return ConnectionLost(f"the connection to {settings.address} broke: {text}", hint="run it again")
    if error.diag.source_file == _SHARED_MEMORY:  # PostgreSQL calls that a full disk
        return StatementFailed(
            f"the shared memory of the server at {settings.address} is too small: {text}",
            hint=_ENLARGE.format(role=settings.user),
        )
    if _raced(error):
        return TableLockTimeout(f"another session made the same object at the same moment: {text}", hint="run it again")
    if state in _MEANINGS:
        kind, message, hint = _MEANINGS[state]
        hint = OWN_LIMIT if hint == _SLOW and OWN_LIMIT in getattr(error, "__notes__", ()) else hint
        hint = _CORRECT if running and kind is PreflightFailed else hint
        return kind(message.format(address=settings.address, text=text), hint=hint)
    hint = _CORRECT if running else _HINTS.get(state, "").format(role=settings.user)
    return StatementFailed(f"PostgreSQL refused a statement at {settings.address} ({state}): {text}", hint=hint)

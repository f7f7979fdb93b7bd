"""Transactions and sessions with our settings, and the pipelines in which they send statements."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import RowFactory, tuple_row

from schema_migrator import events
from schema_migrator.errors import CommitUnconfirmed
from schema_migrator.postgres.conninfo import APPLICATION
from schema_migrator.postgres.server_errors import OWN_LIMIT, blame
from schema_migrator.postgres.session_settings import FIRST, LOOK, OUR_PATH, ROLES_OWN, SETTINGS, Limits, settings

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.statements import Statement

_CANCELLED_WAIT = "01000"
_CANCEL_SECONDS = 5.0
# A commit that waits for a standby keeps its locks for that long, so ours does not wait. WAL arrives in order: a
# standby that confirms a later commit has this one too.
_LOCAL: LiteralString = """
SELECT set_config('synchronous_commit', 'local', true)
WHERE current_setting('synchronous_commit') NOT IN ('off', 'local')
"""
WRITE_WAL: LiteralString = "SELECT pg_logical_emit_message(true, 'schema_migrator'::text, ''::text)"
"""Writes a few bytes of WAL. A commit without WAL waits for neither the disk nor a standby."""
_CONFIRM: LiteralString = f"{WRITE_WAL} WHERE current_setting('synchronous_standby_names') <> ''"


class Batch:
    """Statements sent without waiting for their answers. The batch knows which of them failed.

    `schema` is the schema in which the vendor's statements work, and `path` the search_path that only they see.
    """

    def __init__(self, conn: Connection, schema: str = "", path: str | None = None) -> None:
        self._conn = conn
        self._sent: list[tuple[psycopg.Cursor[Any], Statement | None]] = []
        self.schema = schema
        self.path = path or (path_of(conn, schema) if schema else OUR_PATH)

    def send(self, query: LiteralString | sql.Composed, values: Sequence[object] | None = None) -> psycopg.Cursor[Any]:
        """Send a query of our own and return its cursor."""
        cursor = self._conn.execute(query, values)
        self._sent.append((cursor, None))
        return cursor

    def run(self, statements: Iterable[Statement], *, path: str | None = None) -> None:
        """Send a step's statements, without CONCURRENTLY; they see another search_path if one is given."""
        with store_path(self._conn, path or self.path):
            for statement in statements:
                cursor = self._conn.cursor()
                self._sent.append((cursor, statement))
                cursor.execute(statement.plain.encode())

    def blame(self, error: psycopg.Error) -> Exception:
        """Return an error that shows the failed statement, or the error itself if none of the vendor's failed."""
        failed = next((statement for cursor, statement in self._sent if cursor.statusmessage is None), None)
        return error if failed is None else blame(failed, error)


@contextmanager
def batch(conn: Connection, schema: str = "", path: str | None = None) -> Iterator[Batch]:
    """Send the block's statements in a pipeline: nothing waits for an answer until the block fetches a row.

    Only a BEGIN makes a transaction of them: without it, they may be committed in several parts.
    """
    sent = Batch(conn, schema, path)
    try:
        with conn.pipeline():
            yield sent
    except psycopg.Error as error:
        raise sent.blame(error) from error


@contextmanager
def transaction(conn: Connection, schema: str | None, limits: Limits, *, name: str) -> Iterator[Batch]:
    """Run the block in one READ COMMITTED transaction with our settings; the vendor's statements run in `schema`.

    The settings last only as long as the transaction, so that the next client of a pooler does not see them. The
    commit releases its locks at once; if `limits` say so, what follows waits until a synchronous standby confirms it.
    """
    try:
        confirmed = _confirmed(conn, limits.commit) if limits.commit else nullcontext()
        with confirmed as bound, batch(conn, schema or "") as sent:
            conn.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            configure(conn, limits, name)
            if limits is not LOOK:
                conn.execute(_LOCAL)
            yield sent
            conn.execute("COMMIT")
            if bound:
                bound.start()
                _ask_confirmation(conn, name)
    except BaseException as error:
        if limits is LOOK:
            error.add_note(OWN_LIMIT)
        with suppress(psycopg.Error):  # if the connection is lost, the server rolls back
            conn.rollback()
        raise


def confirm(conn: Connection, seconds: float) -> None:
    """Wait until a synchronous standby, if there is one, has all that this server has committed.

    Raises CommitUnconfirmed after `seconds`.
    """
    with _confirmed(conn, seconds) as bound, batch(conn):
        bound.start()
        _ask_confirmation(conn, APPLICATION)


def _ask_confirmation(conn: Connection, name: str) -> None:
    """Send a small transaction whose commit waits as the role's own `synchronous_commit` says."""
    conn.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    configure(conn, LOOK, name)
    conn.execute(_CONFIRM)
    conn.execute("COMMIT")


def look(conn: Connection, schema: str | None = None, *, name: str = APPLICATION) -> AbstractContextManager[Batch]:
    """Run the block's queries in a transaction with the limits of a look."""
    return transaction(conn, schema, LOOK, name=name)


@contextmanager
def _confirmed(conn: Connection, seconds: float) -> Iterator[threading.Timer]:
    """Raise CommitUnconfirmed if the block gave up waiting for a synchronous standby.

    PostgreSQL reports that only in a warning (source: syncrep.c). No timeout of the server ends that wait. The block
    receives a timer, and starts it, that cancels the wait after `seconds`.
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
            "the server has committed, but no synchronous standby has confirmed that: it is lost if this server"
            " is lost",
            hint="see pg_stat_replication and synchronous_standby_names; then run it again: it resumes from there",
        )


def _give_up(conn: Connection) -> None:
    with suppress(psycopg.Error):
        conn.cancel_safe(timeout=_CANCEL_SECONDS)


def path_of(conn: Connection, schema: str) -> str:
    """Return the search_path for the vendor's statements: exactly one schema, in addition to PostgreSQL's own."""
    return sql.Identifier(schema).as_string(conn)


def ask(
    conn: Connection,
    query: LiteralString | sql.Composed,
    values: Sequence[object] | Mapping[str, object] | None = None,
    *,
    row: RowFactory[Any] = tuple_row,
) -> list[Any]:
    """Run one of our queries in a transaction of its own, in one round trip, and return its rows."""
    with look(conn):
        cursor = conn.cursor(row_factory=row).execute(query, values)
    return cursor.fetchall()


@contextmanager
def store_path(conn: Connection, path: str, *, local: bool = True) -> Iterator[None]:
    """Let the block's statements see the store's schema, and create tables where the role's own settings say.

    It is for the vendor's statements, and for definitions of the store's objects that PostgreSQL itself generated.
    """
    scope = "LOCAL" if local else "SESSION"
    inside = {"search_path": path} | dict.fromkeys(ROLES_OWN, "DEFAULT")
    outside = {"search_path": OUR_PATH} | {name: f"'{SETTINGS[name]}'" for name in ROLES_OWN}
    for name, value in inside.items():
        conn.execute(f"SET {scope} {name} = {value}".encode())
    yield
    for name, value in outside.items():
        conn.execute(f"SET {scope} {name} = {value}".encode())


@contextmanager
def session(conn: Connection, limits: Limits, *, name: str) -> Iterator[None]:
    """Run the block outside of any transaction, with our settings for the session, for CONCURRENTLY and VACUUM.

    The commits do not wait for a standby, because nothing would limit that wait. Nothing is lost by it: a standby that
    confirms something later has these commits too.
    """
    configure(conn, limits, name, local=False)
    conn.execute("SET synchronous_commit = local")
    try:
        yield
    finally:
        if not conn.broken:
            conn.execute("RESET ALL")


def configure(conn: Connection, limits: Limits, name: str, *, local: bool = True) -> None:
    """Set everything that our statements need, for the transaction if `local`, otherwise for the session.

    On a connection that is marked as read-only, the server refuses every statement that would write.
    """
    if local and conn.read_only:
        conn.execute("SET LOCAL transaction_read_only = on")
    for statement in FIRST:
        conn.execute((statement if local else statement.replace("LOCAL", "SESSION")).encode())
    conn.execute(settings(conn, limits, name, local=local))


@contextmanager
def planner(conn: Connection, **switches: str) -> Iterator[None]:
    """Set planner switches, such as `seqscan="off"`, for the block's statements in an open transaction.

    Afterwards they are on again: that is how each of our transactions begins.
    """
    for name, value in switches.items():
        conn.execute(f"SET LOCAL enable_{name} = {value}".encode())
    yield
    for name in switches:
        conn.execute(f"SET LOCAL enable_{name} = on".encode())

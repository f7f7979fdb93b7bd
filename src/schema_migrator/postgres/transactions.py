"""Transactions and sessions with our settings, and pipelines of statements in them."""

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


def look(conn: Connection, schema: str | None = None, *, name: str = APPLICATION) -> AbstractContextManager[Batch]:
    """Run the block's queries in a transaction with the limits of a look."""
    return transaction(conn, schema, LOOK, name=name)


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
            "the server has committed, but no synchronous standby has confirmed that: it is lost if this server"
            " is lost",
            hint="see pg_stat_replication and synchronous_standby_names; then run it again: it resumes from there",
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
    with look(conn):
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
    for statement in FIRST:
        conn.execute((statement if local else statement.replace("LOCAL", "SESSION")).encode())
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

"""The advisory lock: one run at a time per database. PostgreSQL releases it when its owner dies.

A separate connection holds a transaction-level lock in an open READ COMMITTED transaction, which
holds no snapshot between statements. Waiters poll: a blocked `pg_advisory_lock` would hold a snapshot
and so block the holder's CREATE INDEX CONCURRENTLY (golang-migrate issue 960). A transaction-level lock
also works through a transaction pooler. PostgreSQL: "Explicit Locking", "Advisory Locks".
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from schema_migrator import events
from schema_migrator.concurrency import polls
from schema_migrator.errors import LockHeld, LockLost
from schema_migrator.postgres import activity, connection, session_settings
from schema_migrator.postgres.conninfo import session_name

if TYPE_CHECKING:
    from schema_migrator.concurrency import Interrupt, Poll
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.postgres.connection import Connection

KEY = 0x54656D706F72616C
"""The lock's key: "Temporal" in ASCII. Its halves are pg_locks.classid and objid."""

_SIGN_OF_LIFE_SECONDS = 10.0
_HOLDER_TIMEOUT_SECONDS = 60  # a holder without a heartbeat for this long loses the lock
_ORPHAN_SECONDS = 15.0

_NO_LIMITS = session_settings.Limits(table_lock=0, statement=0)
_TRY = """
BEGIN ISOLATION LEVEL READ COMMITTED;
{first};
{settings};
SET LOCAL idle_in_transaction_session_timeout = {timeout};
SELECT pg_try_advisory_xact_lock({key}), pg_backend_pid()
"""
_MINE: LiteralString = f"""
l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND l.classid = {KEY >> 32} AND l.objid = {KEY & 0xFFFFFFFF}
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 - constants of this module
HOLDER: LiteralString = f"(SELECT l.pid FROM pg_catalog.pg_locks l WHERE {_MINE})"  # noqa: S608 - a constant
"""The SQL for the pid of the backend that holds the lock; NULL if nobody does."""
_HOLDER = f"""
SELECT l.pid, a.application_name, coalesce(a.client_addr::text, 'local') AS client,
  a.xact_start::text AS since
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE {_MINE}
"""  # noqa: S608 - constants of this module
# Within a transaction pg_stat_activity keeps showing what it showed on the first access.
_LOOK_ANEW = "SELECT pg_stat_clear_snapshot()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A held lock: the pid of the backend that holds it, and the application name of the backends that it protects."""

    pid: int
    worker: str

    def ask(self, conn: Connection) -> psycopg.Cursor[Any]:
        """Query, on a worker's connection, whether the lock is still held."""
        return conn.execute(f"SELECT EXISTS (SELECT FROM pg_locks l WHERE l.pid = %s AND {_MINE})", [self.pid])  # noqa: S608

    def assert_held(self, answer: psycopg.Cursor[Any]) -> None:
        """Raise LockLost unless the answer says that the lock is held."""
        row = answer.fetchone()
        if row is None or not row[0]:
            raise LockLost(
                f"backend {self.pid} lost the advisory lock during the work, which was rolled back",
                hint="run it again",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Seconds to wait for the lock and for the database, and between two progress events.

    `between` is called at each attempt that finds the lock held by another run.
    """

    lock: float
    database: float
    heartbeat: float
    between: Callable[[], None] = lambda: None


@contextmanager
def hold(settings: StoreSettings, interrupt: Interrupt, *, run: str, waits: Waits) -> Iterator[Lock]:
    """Hold the lock during the block.

    At each heartbeat an event reports the statement that is running. Raises LockHeld at the deadline, naming the
    holder, or the sessions that an earlier run left.
    """
    conn = connection.connect(settings, interrupt, patience=waits.database)
    # With server-side binding a query's portal, and with it its snapshot, stays until the next query:
    # our own CREATE INDEX CONCURRENTLY would wait for the holder forever.
    conn.cursor_factory = psycopg.ClientCursor
    worker = session_name(f"worker {run}")
    try:
        pid = _acquire(conn, settings, interrupt, waits)
        _end_orphans(conn, settings, interrupt, worker, max(waits.lock, 2 * _ORPHAN_SECONDS))
        with _heartbeat(conn, worker, events.Interval(seconds=waits.heartbeat)):
            yield Lock(pid=pid, worker=worker)
    finally:
        _release(conn)


def _acquire(conn: Connection, settings: StoreSettings, interrupt: Interrupt, waits: Waits) -> int:
    attempt = sql.SQL(_TRY).format(
        first=sql.SQL("; ").join(map(sql.SQL, session_settings.FIRST)),
        settings=session_settings.settings(conn, _NO_LIMITS, session_name("lock")),
        timeout=sql.Literal(f"{_HOLDER_TIMEOUT_SECONDS}s"),
        key=sql.Literal(KEY),
    )
    for poll in polls(interrupt, limit=waits.lock, pause=0.1, longest=2.0):
        cursor = conn.execute(attempt)
        while cursor.nextset():
            pass
        held, pid = cursor.fetchone() or (False, 0)
        if held:
            break
        _report_holder(conn, settings, poll, waits.lock)
        conn.execute("ROLLBACK")
        waits.between()
    return int(pid)


def holder(conn: Connection) -> tuple[int, str] | None:
    """Return who holds the lock, as a pid and in words, None if nobody does; in an open transaction."""
    found = _ask_holder(conn)
    return None if found is None else (found["pid"], _describe(found))


def _ask_holder(conn: Connection) -> dict[str, Any] | None:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_HOLDER).fetchone()


def _report_holder(conn: Connection, settings: StoreSettings, poll: Poll, patience: float) -> None:
    found = _ask_holder(conn)
    who = _describe(found)
    if poll.late:
        raise LockHeld(
            f'another run holds the lock on database "{settings.database}" after {patience:g} s: {who}',
            hint=f"wait for it, or if it is yours and hangs, end it: {_ending(found)}",
        )
    events.logger().info(
        "lock.waiting", database=settings.database, holder=who, seconds=round(poll.seconds), limit=patience
    )


def _describe(found: dict[str, Any] | None) -> str:
    if found is None:
        return "it has just been released"
    name = found["application_name"] or "unnamed"
    if found["since"] is None:
        return f"pid {found['pid']} ({name}), about which this role can see no more"
    return f"pid {found['pid']} ({name}) from {found['client']} since {found['since']}"


def _ending(session: dict[str, Any] | None) -> str:
    """Return the SQL that ends a session, or the advice to run again if the holder has just released the lock."""
    return f"SELECT pg_terminate_backend({session['pid']});" if session else "run this again"


def _end_orphans(conn: Connection, settings: StoreSettings, interrupt: Interrupt, worker: str, patience: float) -> None:
    """Wait for backends that still work for an earlier run although its client is gone, then end them.

    Raises LockHeld if one that must not or cannot be ended is still active at the deadline.
    """
    beat, known = events.Interval(seconds=_ORPHAN_SECONDS), set[int]()
    for poll in polls(interrupt, limit=patience, pause=0.5):
        orphans, due = _orphans(conn, worker), beat.due()
        if not orphans:
            return
        for orphan in orphans:
            if due or orphan["pid"] not in known:
                events.logger().warning("orphan.found", **orphan)
        known |= {orphan["pid"] for orphan in orphans}
        if poll.late:
            raise LockHeld(
                f'sessions left by an earlier run are still active in "{settings.database}" after'
                f" {poll.seconds:.0f} s: {', '.join(map(_named, orphans))}",
                hint="wait for them, or end them as their role or as a superuser: " + " ".join(map(_ending, orphans)),
            )
        if poll.seconds > _ORPHAN_SECONDS:
            _end(conn, [orphan for orphan in orphans if orphan["kin"]], tell=due)
        conn.execute(_LOOK_ANEW)


def _orphans(conn: Connection, worker: str) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(activity.ORPHANS, [worker]).fetchall()


def _named(session: dict[str, Any]) -> str:
    return f'pid {session["pid"]} ({session["application_name"]}) of the role "{session["role"]}"'


def _end(conn: Connection, sessions: list[dict[str, Any]], *, tell: bool) -> None:
    """End the sessions that our role may end. If it may not, the lock's transaction continues all the same."""
    for orphan in sessions:
        pid, role = orphan["pid"], orphan["role"]
        try:
            with conn.transaction():
                conn.execute("SET LOCAL ROLE NONE")  # a login that acts as another role may end its sessions as itself
                conn.execute("SELECT pg_terminate_backend(%s)", [pid])
        except psycopg.errors.InsufficientPrivilege as error:
            if tell:
                events.logger().warning("orphan.not_ended", pid=pid, role=role, reason=str(error).strip())


@contextmanager
def _heartbeat(conn: Connection, worker: str, beat: events.Interval) -> Iterator[None]:
    done = threading.Event()
    pause = beat.seconds / math.ceil(beat.seconds / _SIGN_OF_LIFE_SECONDS)

    def live() -> None:
        while not done.wait(pause):
            with suppress(psycopg.Error):  # the worker itself checks the lock before each commit
                conn.execute(_LOOK_ANEW)
                if beat.due():
                    _report_progress(conn, worker)

    thread = threading.Thread(target=live, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(_SIGN_OF_LIFE_SECONDS)


def _report_progress(conn: Connection, worker: str) -> None:
    with conn.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(activity.PROGRESS, [worker]).fetchall():
            shown = {name: value for name, value in row.items() if value not in (None, [])}
            events.logger().info("statement.running", **shown)


def _release(conn: Connection) -> None:
    with suppress(psycopg.Error):  # an earlier error is the one to report
        if not conn.broken:
            conn.execute("ROLLBACK")
    conn.close()

"""Connection poolers: how to connect past one, and whether a connection keeps its session of the server.

A pooler gives each client a cancel key of its own, so `backend_pid` differs from `pg_backend_pid()` in every mode. In
transaction mode it gives a client's session to other clients between transactions; in session mode it does not.
"""

from __future__ import annotations

import select
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import psycopg

from schema_migrator.errors import MigratorError, RefusedError
from schema_migrator.postgres import connection, server_errors, transactions

if TYPE_CHECKING:
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.postgres.connection import Connection

_WITNESSES = 3
_MOST = 16
_LOOKS = 4
_SECONDS = 5.0
_POLL = 0.5
_PATIENCE = 10.0
_TAKE = b"BEGIN; SET LOCAL search_path = pg_catalog, pg_temp; "
_DATABASE = "SELECT current_database()::text"
_SAME = """
SELECT extract(epoch FROM pg_postmaster_start_time())::text, d.oid
FROM pg_catalog.pg_database d WHERE d.datname = current_database()
"""
_SESSION = "SELECT pg_backend_pid()"
# The client address is that of the pooler: several poolers may share a host name, and each has its own sessions.
_WITNESS = """
SELECT pg_backend_pid(), coalesce(host(inet_client_addr()), ''),
  extract(epoch FROM a.backend_start), extract(epoch FROM clock_timestamp())
FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_backend_pid()
"""


def past(conn: Connection, settings: StoreSettings) -> StoreSettings:
    """Return the settings that lead past a pooler to the database of `conn`, under the server's name for it."""
    if not settings.has_direct:
        return settings
    ((name,),) = transactions.ask(conn, _DATABASE)
    return settings.direct(name)


def in_the_way(what: str) -> tuple[str, str]:
    """Return the problem that a transaction pooler causes for `what`, and the remedy."""
    return (
        f"a transaction pooler prevents {what}",
        "set SQL_DIRECT_HOST (and SQL_DIRECT_PORT) to the server itself",
    )


def problem(conn: Connection, settings: StoreSettings, interrupt: Interrupt, what: str) -> tuple[str, str] | None:
    """Test the connection that has to keep its session: the one past the pooler if it is set, otherwise `conn`.

    Return the problem and its remedy, or None if there is no problem. Raises DatabaseUnavailable if the connection past
    the pooler does not answer.
    """
    if not settings.has_direct:
        return None if keeps_session(conn, settings, interrupt) else in_the_way(what)
    store = past(conn, settings)
    try:
        with (
            server_errors.translated(store, interrupt),
            closing(connection.connect(store, interrupt, patience=_PATIENCE)) as direct,
        ):
            if transactions.ask(direct, _SAME) != transactions.ask(conn, _SAME):
                return (
                    f"SQL_DIRECT_HOST leads to another server than SQL_HOST: {store.address}",
                    "set SQL_DIRECT_HOST (and SQL_DIRECT_PORT) to the server behind the pooler",
                )
            return None if keeps_session(direct, store, interrupt) else in_the_way(what)
    except RefusedError as error:
        return f"the connection past the pooler fails: {error.message}", error.hint


def keeps_session(conn: Connection, settings: StoreSettings, interrupt: Interrupt) -> bool:
    """Return whether a connection has a session of the server to itself; False if that cannot be determined.

    A pooler in transaction mode never opens a session while one is free. So the test opens further connections, each of
    which takes a session. If one of them gets our session, the pooler is in transaction mode. If three of them, through
    the same pooler, get newly opened sessions while ours stays the same, it is not.
    """
    if conn.info.backend_pid == _pid(conn):
        return True
    try:
        return _keeps(conn, settings, interrupt)
    except (psycopg.Error, MigratorError):
        interrupt.check()
        return False


def _keeps(conn: Connection, settings: StoreSettings, interrupt: Interrupt) -> bool:
    ((own_pid, place, _, began),) = transactions.ask(conn, _WITNESS)
    witnesses = 0
    with ExitStack() as stack:
        for _ in range(_MOST):
            other = stack.enter_context(closing(connection.connect(settings, interrupt, patience=0)))
            pid, through, opened, _ = _taken(other, interrupt)
            if pid == own_pid or any(_pid(conn) != own_pid for _ in range(_LOOKS)):
                return False
            witnesses += through == place and opened > began
            if witnesses == _WITNESSES:
                return True
    return False


def _pid(conn: Connection) -> int:
    ((pid,),) = transactions.ask(conn, _SESSION)
    return int(pid)


def _taken(other: Connection, interrupt: Interrupt) -> tuple[int, str, float, float]:
    """Let a connection take a session and keep it until the connection is closed.

    Return the session's pid, its client address, its start and the current time, both in seconds since the epoch. A
    full pooler lets the query wait for minutes and ignores cancel requests in the meantime, so nothing here blocks.
    """
    with other.lock:  # otherwise another thread could ping it during the query
        last = _last_result(other.pgconn, interrupt)
    if last is None or last.status != psycopg.pq.ExecStatus.TUPLES_OK:
        raise psycopg.OperationalError("a session did not identify itself")
    pid, place, opened, now = (last.get_value(0, column) or b"" for column in range(4))
    return int(pid), place.decode(), float(opened), float(now)


def _last_result(pgconn: psycopg.pq.abc.PGconn, interrupt: Interrupt) -> psycopg.pq.abc.PGresult | None:
    deadline = time.monotonic() + _SECONDS
    pgconn.send_query(_TAKE + _WITNESS.encode())
    pgconn.flush()
    while pgconn.is_busy():
        interrupt.check()
        if time.monotonic() > deadline:
            raise psycopg.OperationalError("the pooler has no session left")
        if select.select([pgconn.socket], [], [], _POLL)[0]:
            pgconn.consume_input()
    last = None
    while (result := pgconn.get_result()) is not None:
        last = result
    return last

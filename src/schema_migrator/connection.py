"""The only place that connects: patience, and what a refusal means."""

from __future__ import annotations

import math
import re
import threading
import time
import weakref
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import psycopg
import tenacity

from schema_migrator import logs
from schema_migrator.errors import (
    DatabaseUnavailable,
    MigratorError,
    PasswordRejected,
    PreflightFailed,
    SettingsError,
    TlsRejected,
)
from schema_migrator.parameters import parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema_migrator.settings import StoreSettings
    from schema_migrator.workers import Interrupt

Connection = psycopg.Connection[Any]

_PASSWORD_PATIENCE_SECONDS = 8.0  # a Secret may reach the server a little later than us
_CONNECT_SECONDS = 10
_SILENT_SECONDS = 5.0
_PREAMBLE = re.compile(r"connection (failed|is bad): |connection to server (at|on) .*? failed: |(FATAL|ERROR):  ")


class Refusal(Enum):
    """Why a connection failed, as far as it says what to do next."""

    ABSENT = auto()  # wait for it
    REJECTED = auto()  # wait a little
    NO_PASSWORD = auto()
    FORBIDDEN = auto()
    TLS = auto()
    MISTAKEN = auto()


# libpq keeps the SQLSTATE of a failed connection to itself, so here, and only here, texts decide.
# What is not recognised (a server that speaks another language) is retried until the deadline.
_TEXTS = (
    (Refusal.FORBIDDEN, re.compile(r"no pg_hba\.conf entry|permission denied for database|not permitted to log in")),
    (Refusal.NO_PASSWORD, re.compile(r"no password supplied")),
    (Refusal.TLS, re.compile(r"certificate|private key file|not support SSL|SSL error: (?!unexpected eof)")),
    (Refusal.REJECTED, re.compile(r'authentication failed|role ".*" does not exist|no such user')),
    (
        Refusal.MISTAKEN,
        re.compile(
            r"invalid \w+ value|invalid port|weak sslmode|could not match|unrecognized configuration parameter"
            r"|invalid value for parameter|unsupported startup parameter|permission denied to set parameter"
            r"|definition of service|service file"
        ),
    ),
)
_TLS_HINTS = {
    "does not match host name": "set SQL_TLS_SERVER_NAME to a name that it has",
    "certificate verify failed": "set SQL_TLS_CA_FILE to the authority that signed it",
    "not support SSL": "set SQL_TLS=false, or switch ssl on in the server",
    "group or world access": "mount its Secret with defaultMode: 0440, owned by root",
    "requires a valid client certificate": "set SQL_TLS_CERT_FILE and SQL_TLS_KEY_FILE",
    "alert certificate required": "set SQL_TLS_CERT_FILE and SQL_TLS_KEY_FILE",
}


def connect(
    settings: StoreSettings, interrupt: Interrupt, *, patience: float, direct: bool = False, began: float | None = None
) -> Connection:
    """Connect, waiting up to `patience` seconds for a database that is not there yet.

    The connection is in autocommit. `direct` goes past a transaction pooler; `began` is when the waiting began
    (time.monotonic), if it was not now. Raises DatabaseUnavailable at the deadline, PasswordRejected,
    PreflightFailed, TlsRejected or SettingsError.
    """
    limit = _Patience(patience, time.monotonic() if began is None else began)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(psycopg.OperationalError),
        stop=lambda state: limit.left(state) <= 0 or interrupt.event.is_set(),
        wait=limit.wait,
        sleep=tenacity.sleep_using_event(interrupt.event),
        before_sleep=_log_waiting(settings),
        reraise=True,
    )
    try:
        conn = retrying(lambda: _connect_once(settings, limit, direct=direct))
    except psycopg.OperationalError as error:
        interrupt.check()
        raise _explain(error, settings, patience) from error
    except psycopg.ProgrammingError as error:  # libpq refuses a parameter before it connects
        raise _mistaken(str(error).strip(), settings) from error
    except UnicodeError as error:  # Python does so with a name that the resolver's encoding has no place for
        raise SettingsError(
            f"the host in {settings.address} is no host's name", hint="correct SQL_HOST", store=settings.store
        ) from error
    interrupt.watch(conn)
    return conn


def refusal(error: BaseException | None) -> tuple[Refusal, str]:
    """Return what a failed attempt means, and the line that says so; of several hosts, the most telling one."""
    lines = [_PREAMBLE.sub("", line).strip() for line in str(error).splitlines() if line.strip()]
    for kind, pattern in _TEXTS:
        for line in lines:
            if pattern.search(line):
                return kind, line
    return Refusal.ABSENT, lines[0] if lines else type(error).__name__


class _SignsOfLife:
    """Says something now and then on every connection that has nothing to do: proxies end the silent ones.

    Safe beside the threads that use them: psycopg holds a connection's lock whenever it uses it, and a transaction or
    a pipeline that is open shows in its status.
    """

    def __init__(self) -> None:
        self._conns: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, conn: Connection) -> None:
        """Keep a connection alive until it is closed."""
        with self._lock:
            self._conns.add(conn)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="signs of life", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(_SILENT_SECONDS)
            with self._lock:
                conns = list(self._conns)
            for conn in conns:
                if conn.lock.acquire(blocking=False):
                    try:
                        _ping(conn.pgconn)
                    finally:
                        conn.lock.release()


def _ping(pgconn: psycopg.pq.abc.PGconn) -> None:
    """Send an empty query unless the connection is in use."""
    idle = pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
    if idle and pgconn.pipeline_status == psycopg.pq.PipelineStatus.OFF:
        with suppress(psycopg.Error):  # whoever uses the connection next is told
            pgconn.exec_(b"")


_ALIVE = _SignsOfLife()


class _Patience:
    """How long to go on: until the deadline for what may come up yet, briefly for a rejected password."""

    def __init__(self, seconds: float, began: float) -> None:
        self.deadline = began + seconds
        self.backoff = tenacity.wait_exponential(multiplier=0.2, max=5) + tenacity.wait_random(0, 1)
        self.rejected_until = math.inf

    def left(self, state: tenacity.RetryCallState) -> float:
        kind, _ = refusal(state.outcome.exception() if state.outcome else None)
        now = time.monotonic()
        if kind is Refusal.REJECTED:
            self.rejected_until = min(self.rejected_until, now + _PASSWORD_PATIENCE_SECONDS)
            return min(self.deadline, self.rejected_until) - now
        return self.deadline - now if kind is Refusal.ABSENT else 0.0

    def wait(self, state: tenacity.RetryCallState) -> float:
        return max(0.0, min(self.backoff(state), self.left(state)))

    def attempt_seconds(self) -> int:
        return min(_CONNECT_SECONDS, max(2, math.ceil(self.deadline - time.monotonic())))


def _connect_once(settings: StoreSettings, limit: _Patience, *, direct: bool) -> Connection:
    conn = psycopg.connect(
        **parameters(settings, direct=direct),
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=limit.attempt_seconds(),
    )
    conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    _ALIVE.watch(conn)
    return conn


def _log_waiting(settings: StoreSettings) -> Callable[[tenacity.RetryCallState], None]:
    def log(state: tenacity.RetryCallState) -> None:
        _, reason = refusal(state.outcome.exception() if state.outcome else None)
        spent = round(state.seconds_since_start or 0)
        logs.logger().warning("database.waiting", database=settings.address, seconds=spent, reason=reason)

    return log


def _explain(error: psycopg.OperationalError, settings: StoreSettings, patience: float) -> MigratorError:
    kind, text = refusal(error)
    match kind:
        case Refusal.ABSENT:
            return _absent(text, settings, patience)
        case Refusal.REJECTED:
            return PasswordRejected(
                f"the server rejected the password for {settings.address}",
                hint=_password_hint(settings),
                store=settings.store,
            )
        case Refusal.NO_PASSWORD:
            return PasswordRejected(
                f"the server asks for a password for {settings.address}, and none is set",
                hint="set SQL_PASSWORD, SQL_PASSWORD_FILE or SQL_PASSWORD_COMMAND",
                store=settings.store,
            )
        case Refusal.FORBIDDEN:
            return _forbidden(text, settings)
        case Refusal.TLS:
            hint = next((hint for part, hint in _TLS_HINTS.items() if part in text), "correct the settings SQL_TLS_*")
            return TlsRejected(f"no TLS connection to {settings.address}: {text}", hint=hint, store=settings.store)
        case Refusal.MISTAKEN:
            return _mistaken(text, settings)


def _password_hint(settings: StoreSettings) -> str:
    """Return what is wrong with the password, as far as its form shows it; nothing of the password itself."""
    given = settings.sql.password.get_secret_value() if settings.sql.password else ""
    if given.endswith(("\n", "\r")):
        return (
            "SQL_PASSWORD ends with a line break, which counts as part of it (`echo password | base64` makes one):"
            " write the Secret again with `echo -n`, or with `kubectl create secret generic --from-literal`"
        )
    if given != given.strip():
        return "SQL_PASSWORD begins or ends with a blank: is that part of the password?"
    return "the Secret and the role's password differ: make them the same"


def _absent(text: str, settings: StoreSettings, patience: float) -> DatabaseUnavailable:
    hint = "is it running, and is the address right?"
    if f'"{settings.database}" does not exist' in text or "no such database" in text:
        hint = "create it: schema-migrator create-database"
    elif re.search(r"too many (connections|clients)|connection slots", text):
        hint = "raise that limit, or close other connections: a store takes two"
    return DatabaseUnavailable(
        f"the database at {settings.address} was not there after {patience:g} s: {text}",
        hint=hint,
        store=settings.store,
    )


def _forbidden(text: str, settings: StoreSettings) -> PreflightFailed:
    role = settings.user or "the role"
    if "permission denied for database" in text:
        hint = f'as its owner run: GRANT CONNECT ON DATABASE "{settings.database}" TO "{role}";'
    elif "not permitted to log in" in text:
        hint = f'as a superuser run: ALTER ROLE "{role}" LOGIN;'
    else:
        also = " or set SQL_TLS=true" if "no encryption" in text else ""
        hint = f"allow it in the server's pg_hba.conf{also}"
    return PreflightFailed(
        f"the server does not let us in at {settings.address}: {text}", hint=hint, store=settings.store
    )


def _mistaken(text: str, settings: StoreSettings) -> SettingsError:
    return SettingsError(
        f"the connection parameters for {settings.address} are refused: {text}",
        hint="correct SQL_CONNECT_ATTRIBUTES, or libpq's own variables (PG...)",
        store=settings.store,
    )

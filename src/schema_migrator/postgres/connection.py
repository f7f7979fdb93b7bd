"""The only module that connects: it retries until a deadline and turns refusals into our errors."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import psycopg
import tenacity

from schema_migrator import events
from schema_migrator.config import rehearsal_place
from schema_migrator.errors import MigratorError, NoIdentity, SettingsError, TokenRefused, TokenUnavailable
from schema_migrator.postgres.connect_failures import ConnectFailure, explain, mistaken, place_of, refusal
from schema_migrator.postgres.conninfo import is_local, may_go_without_tls, parameters
from schema_migrator.postgres.pipelines import PipelineConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import StoreSettings

Connection = psycopg.Connection[Any]

_PASSWORD_PATIENCE_SECONDS = 8.0  # a new password may reach the server a little later than this program
_TOKENS = (NoIdentity, TokenRefused, TokenUnavailable)  # in a new pod an identity may be seconds away
_AGAIN_SECONDS = 1.0
_CONNECT_SECONDS = 10
_SILENT_SECONDS = 5.0


def connect(
    settings: StoreSettings, interrupt: Interrupt, *, patience: float, began: float | None = None
) -> Connection:
    """Connect, and wait up to `patience` seconds for a database that is not available yet.

    The connection is in autocommit mode. `began` is the start of the wait (time.monotonic); None means now. Raises
    DatabaseUnavailable or TokenUnavailable at the deadline, PasswordRejected, PreflightFailed, TlsRejected or
    SettingsError.
    """
    _warn(settings)
    limit = _Patience(patience, time.monotonic() if began is None else began, renews=settings.renews_password)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((psycopg.OperationalError, *_TOKENS)),
        stop=lambda state: limit.left(state) <= 0 or interrupt.event.is_set(),
        wait=limit.wait,
        sleep=tenacity.sleep_using_event(interrupt.event),
        before_sleep=_log_waiting(settings),
        reraise=True,
    )
    try:
        conn = retrying(lambda: _connect_once(settings, limit))
    except psycopg.OperationalError as error:
        interrupt.check()
        raise explain(error, settings, patience) from error
    except _TOKENS:
        interrupt.check()
        raise
    except psycopg.ProgrammingError as error:  # libpq refuses a parameter before it connects
        raise mistaken(str(error).strip(), settings) from error
    except UnicodeError as error:  # Python raises this for a name that the resolver's encoding cannot represent
        raise SettingsError(
            f"the host in {settings.address} is not a host name", hint="correct SQL_HOST", store=settings.store
        ) from error
    interrupt.watch(conn)
    return conn


_warned: set[tuple[str, str]] = set()


def _warn(settings: StoreSettings) -> None:
    """Warn, once per run, about settings that may reveal the password to others."""
    host = settings.sql.host or os.environ.get("PGHOST") or ""
    if may_go_without_tls(settings) and not is_local(settings) and ("tls", host) not in _warned:
        _warned.add(("tls", host))
        events.logger().warning(
            "tls.optional",
            database=settings.address,
            reason="SQL_TLS is not set, so a server that claims to have no TLS still gets the password",
            hint="set SQL_TLS=true, or SQL_TLS=false if the network is trusted",
        )
    if settings.exposed and ("flag", settings.exposed) not in _warned:
        _warned.add(("flag", settings.exposed))
        events.logger().warning(
            "password.exposed",
            flag=settings.exposed,
            reason="every user of this machine can read a flag in the process table",
            hint=f"set {rehearsal_place.VARIABLE}"
            if settings.exposed == rehearsal_place.FLAG
            else "set SQL_PASSWORD, SQL_PASSWORD_FILE or SQL_PASSWORD_COMMAND",
        )


class _SignsOfLife:
    """Sends an empty query on every idle connection from time to time, because proxies close silent connections."""

    def __init__(self) -> None:
        self._conns: weakref.WeakSet[PipelineConnection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, conn: PipelineConnection) -> None:
        """Keep a connection alive until it is closed."""
        with self._lock:
            self._conns.add(conn)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keep-alive", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(_SILENT_SECONDS)
            with self._lock:
                conns = list(self._conns)
            for conn in conns:
                conn.ping()


_ALIVE = _SignsOfLife()


class _Patience:
    """How long to retry: until the deadline if the database may still come up, briefly after a rejected password.

    With `renews` a rejected one is tried twice at least: it may have changed between its reading and the login.
    """

    def __init__(self, seconds: float, began: float, *, renews: bool = False) -> None:
        self.renews = renews
        self.deadline = began + seconds
        self.backoff = tenacity.wait_exponential(multiplier=0.2, max=5) + tenacity.wait_random(0, 1)
        self.rejected_until = math.inf

    def left(self, state: tenacity.RetryCallState) -> float:
        kind = _kind(state.outcome.exception() if state.outcome else None)
        now = time.monotonic()
        if kind in (ConnectFailure.REJECTED, ConnectFailure.NO_ROLE):
            self.rejected_until = min(self.rejected_until, now + _PASSWORD_PATIENCE_SECONDS)
            again = _AGAIN_SECONDS if self.renews and state.attempt_number == 1 else 0.0
            return max(again, min(self.deadline, self.rejected_until) - now)
        return self.deadline - now if kind is ConnectFailure.ABSENT else 0.0

    def wait(self, state: tenacity.RetryCallState) -> float:
        return max(0.0, min(self.backoff(state), self.left(state)))

    def attempt_seconds(self, own: str | None) -> int:
        """Return the limit for one attempt in seconds: `own`, the value of connect_timeout, or 10 if there is none.

        The limit never exceeds the time until the deadline, but is at least 2 s. `own` of 0 means the deadline alone.
        Raises ProgrammingError if `own` is not a number.
        """
        left = max(2, math.ceil(self.deadline - time.monotonic()))
        if own is None:
            return min(_CONNECT_SECONDS, left)
        try:
            return min(int(own), left) if int(own) > 0 else left
        except ValueError:
            text = f'invalid integer value "{own}" for connection option "connect_timeout"'
            raise psycopg.ProgrammingError(text) from None


def _kind(error: BaseException | None) -> ConnectFailure:
    """Return why an attempt failed; what comes before the server is treated like the server's own refusals."""
    match error:
        case TokenUnavailable():
            return ConnectFailure.ABSENT
        case NoIdentity() | TokenRefused():
            return ConnectFailure.REJECTED
        case _:
            return refusal(error)[0]


def _connect_once(settings: StoreSettings, limit: _Patience) -> Connection:
    given = parameters(settings)
    own = given.get("connect_timeout") or os.environ.get("PGCONNECT_TIMEOUT") or None
    conn = PipelineConnection.connect(
        **given | {"connect_timeout": limit.attempt_seconds(own)}, autocommit=True, prepare_threshold=None
    )
    conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    _ALIVE.watch(conn)
    return conn


def _log_waiting(settings: StoreSettings) -> Callable[[tenacity.RetryCallState], None]:
    def log(state: tenacity.RetryCallState) -> None:
        error = (state.outcome.exception() if state.outcome else None) or psycopg.OperationalError()
        spent, place = round(state.seconds_since_start or 0), place_of(error, settings)
        reason = error.message if isinstance(error, MigratorError) else refusal(error)[1]
        events.logger().warning("database.waiting", database=place, seconds=spent, reason=reason)

    return log

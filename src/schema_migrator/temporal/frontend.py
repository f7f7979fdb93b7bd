"""Temporal's frontend: patience until it is ready, and what its refusals mean."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from contextlib import suppress
from datetime import timedelta
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity

from schema_migrator import events
from schema_migrator.errors import (
    AlreadyExists,
    FrontendRefused,
    FrontendUnavailable,
    MigratorError,
    NamespaceRefused,
    NotFound,
    SettingsError,
    TlsRejected,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from temporalio.runtime import Runtime
    from temporalio.service import RPCError, ServiceClient

    from schema_migrator.concurrency import Interrupt
    from schema_migrator.temporal.credentials import Credentials

T = TypeVar("T")
_CALL_SECONDS = 10.0
_PAUSES = (0.2, 0.4, 0.8, 1.6, 2.0)
_LINE_EVERY_SECONDS = 15.0
_THERE = "is it running, and is the address correct?"
_OUR_CERTIFICATE = "set TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH to a pair that it accepts"

_MAY = "set TEMPORAL_API_KEY, or a client certificate, that may do this"


class FrontendFailure(Enum):
    """Why the frontend did not answer as one, as far as it says what to do next."""

    ABSENT = auto()  # wait for it
    TLS = auto()
    FORBIDDEN = auto()
    FOREIGN = auto()
    MISNAMED = auto()


# The client library says what went wrong on the way only in texts, those of Rust's tonic and rustls. What is not
# recognised is waited for until the deadline.
_TEXTS = (
    (
        FrontendFailure.MISNAMED,
        r"Invalid URI|InvalidDnsName",
        "TEMPORAL_TLS_SERVER_NAME is not a host name",
        "correct it",
    ),
    (
        FrontendFailure.MISNAMED,
        r"invalid target URL|InvalidUri",
        "TEMPORAL_ADDRESS is not a host and port",
        "correct it",
    ),
    (FrontendFailure.ABSENT, r"dns error", "no such host", _THERE),
    (FrontendFailure.ABSENT, r"ConnectionRefused", "connection refused", _THERE),
    (FrontendFailure.ABSENT, r"TimeoutExpired|TimedOut|deadline has elapsed", "no answer", _THERE),
    (FrontendFailure.ABSENT, r"ConnectionReset|BrokenPipe|UnexpectedEof", "the connection was closed", _THERE),
    (
        FrontendFailure.TLS,
        r"InvalidCertificate\(UnknownIssuer",
        "no trusted authority has signed its certificate",
        "set TEMPORAL_TLS_SERVER_CA_CERT_PATH to the one that did",
    ),
    (
        FrontendFailure.TLS,
        r"NotValidForName",
        "its certificate is for another name",
        "set TEMPORAL_TLS_SERVER_NAME to a name that it has",
    ),
    (
        FrontendFailure.TLS,
        r"InvalidCertificate\(Expired",
        "its certificate has expired",
        "renew it, or correct this machine's clock",
    ),
    (
        FrontendFailure.TLS,
        r"InvalidCertificate\(NotValidYet",
        "its certificate is not valid yet",
        "is this machine's clock right?",
    ),
    (FrontendFailure.TLS, r"InvalidCertificate\((\w+)", "its certificate was rejected ({0})", "have it reissued"),
    (FrontendFailure.TLS, r"InvalidContentType", "it does not use TLS", "set TEMPORAL_TLS=false, or enable TLS on it"),
    (FrontendFailure.TLS, r"alert: (CertificateRequired)", "it requires a client certificate", _OUR_CERTIFICATE),
    (FrontendFailure.TLS, r"alert: (\w+)", "it rejects this client's TLS ({0})", _OUR_CERTIFICATE),
    (FrontendFailure.TLS, r"H2NotNegotiated", "it speaks TLS, but not gRPC", "use the frontend's gRPC port"),
    (
        FrontendFailure.FOREIGN,
        r"h2 protocol error|Http2",
        "whatever answers there does not speak gRPC",
        "use its gRPC port",
    ),
)
_STATUS = re.compile(r'Status \{ code: (\w+), message: "((?:[^"\\]|\\.)*)"')


class Frontend:
    """A frontend that is ready, and until when (time.monotonic) it may be waited for."""

    def __init__(self, address: str, service: ServiceClient, deadline: float) -> None:
        self.address = address
        self.workflows = service.workflow_service
        self.operator = service.operator_service
        self.deadline = deadline

    async def ask(self, call: Any, request: Any) -> Any:  # noqa: ANN401 - a method of temporalio's, and its types
        """Make a call. Raises FrontendRefused, FrontendUnavailable or NamespaceRefused."""
        from temporalio.service import RPCError  # noqa: PLC0415 - see reach

        try:
            return await call(request, retry=True, timeout=timedelta(seconds=_CALL_SECONDS))
        except RPCError as error:
            raise _explain_status(error, self.address) from error

    async def ask_of(self, call: Any, request: Any) -> Any:  # noqa: ANN401 - the same
        """Make a call about a namespace that is there, again as long as the frontend has not heard of it.

        Each frontend keeps a list of its own, and one that was asked for a namespace too early says for a while that
        there is none (common/namespace/nsregistry/registry.go). Raises the same.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(NotFound),
            stop=self.stop,
            wait=tenacity.wait_exponential(multiplier=_PAUSES[0], max=_PAUSES[-1]),
            before_sleep=_say_once,
            reraise=True,
        )
        try:
            return await retrying(self.ask, call, request)
        except NotFound as error:
            raise FrontendUnavailable(
                f"the frontend at {self.address} does not know it yet", hint="run it again"
            ) from error

    def stop(self, _: tenacity.RetryCallState) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline


def _say_once(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome:
        events.logger().info("namespace.waiting", reason=str(state.outcome.exception()))


def run(work: Coroutine[Any, Any, T], interrupt: Interrupt) -> T:
    """Run to the end, or raise Stopped as soon as a signal comes."""

    async def watched() -> T:
        task = asyncio.ensure_future(work)
        while not task.done() and not interrupt.event.is_set():
            await asyncio.wait({task}, timeout=0.1)
        if not task.done():
            task.cancel()
            interrupt.check()
        return task.result()

    return asyncio.run(watched())


async def reach(shown: Credentials, *, patience: float, began: float) -> Frontend:
    """Connect, and wait until the frontend is healthy, up to `patience` seconds from `began` (time.monotonic).

    Raises FrontendUnavailable at the deadline, TlsRejected or FrontendRefused, and SettingsError where the
    client library is not installed.
    """
    deadline = began + patience
    said: tuple[str, float] = ("", 0.0)
    for number in range(1_000_000):  # ends at the deadline
        left = deadline - time.monotonic()
        try:
            service = await asyncio.wait_for(_try(shown), min(_CALL_SECONDS, max(left, 2)))
        except (RuntimeError, ValueError, TimeoutError, _NotReady) as error:
            kind, words, hint = await _reason(error, shown)
        else:
            return Frontend(shown.address, service, deadline)
        left = deadline - time.monotonic()
        if kind is not FrontendFailure.ABSENT or left <= 0:
            break
        if words != said[0] or time.monotonic() - said[1] >= _LINE_EVERY_SECONDS:
            said = words, time.monotonic()
            events.logger().warning(
                "frontend.waiting", frontend=shown.address, seconds=round(patience - left), reason=words
            )
        await asyncio.sleep(min(_PAUSES[min(number, len(_PAUSES) - 1)], left))
    raise _explain(kind, words, hint, shown, patience)


class _NotReady(Exception):
    """The server answers, but does not serve yet."""


async def _try(shown: Credentials) -> ServiceClient:
    try:
        from temporalio.service import ConnectConfig, RPCError, ServiceClient, TLSConfig  # noqa: PLC0415 - slow to load
    except ImportError as error:
        raise SettingsError(
            "Temporal's client library is not installed", hint="pip install 'temporal-schema-migrator[namespaces]'"
        ) from error
    tls = shown.tls and TLSConfig(
        server_root_ca_cert=shown.tls.ca,
        client_cert=shown.tls.cert,
        client_private_key=shown.tls.key,
        domain=shown.tls.server_name,
    )
    config = ConnectConfig(
        target_host=shown.address,
        runtime=_quiet_runtime(),
        api_key=shown.api_key,
        tls=tls or False,
        identity="schema-migrator",
        lazy=True,
    )
    service = await ServiceClient.connect(config)
    try:
        if not await service.check_health(timeout=timedelta(seconds=_CALL_SECONDS)):
            raise _NotReady("it is not serving yet")
    except RPCError as error:
        raise _NotReady(f'Status {{ code: {error.status.name}, message: "{error.message}" }}') from error
    return service


@cache
def _quiet_runtime() -> Runtime:
    """Return the library's threads, which would else write events of their own to standard output."""
    from temporalio.runtime import Runtime, TelemetryConfig  # noqa: PLC0415 - see _try

    return Runtime(telemetry=TelemetryConfig(logging=None))


async def _reason(error: Exception, shown: Credentials) -> tuple[FrontendFailure, str, str]:
    """Return what a failed attempt means, in words, and what to do about it."""
    text = str(error)
    if isinstance(error, TimeoutError):
        return FrontendFailure.ABSENT, "no answer", _THERE
    if isinstance(error, _NotReady) and not _STATUS.search(text):
        return FrontendFailure.ABSENT, text, "check the server's log"
    if (
        shown.tls is None
        and re.search(r"hyper::Error|h2 protocol", text)
        and await asyncio.to_thread(_speaks_tls, shown)
    ):
        return FrontendFailure.TLS, "it speaks TLS", "set TEMPORAL_TLS=true"
    for kind, pattern, words, hint in _TEXTS:
        if found := re.search(pattern, text):
            return kind, words.format(*found.groups()), hint
    status = _STATUS.search(text)
    return _status_reason(status[1], status[2]) if status else (FrontendFailure.ABSENT, text, _THERE)


def _status_reason(code: str, message: str) -> tuple[FrontendFailure, str, str]:
    name = code.replace("_", "").lower()
    if name in ("permissiondenied", "unauthenticated"):
        return FrontendFailure.FORBIDDEN, message.rstrip("."), _MAY
    if name == "unimplemented":
        return FrontendFailure.FOREIGN, "whatever answers there is not a Temporal frontend", "use its gRPC port"
    return FrontendFailure.ABSENT, message or code, "check the server's log"


def _speaks_tls(shown: Credentials) -> bool:
    """Whether a TLS handshake gets an answer in TLS, whatever it is."""
    host, _, port = shown.address.rpartition(":")
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - nothing is sent
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=3) as raw:
        try:
            context.wrap_socket(raw, server_hostname=host.strip("[]")).close()
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        return True
    return False


def _explain(kind: FrontendFailure, words: str, hint: str, shown: Credentials, patience: float) -> MigratorError:
    address = shown.address
    match kind:
        case FrontendFailure.ABSENT:
            return FrontendUnavailable(
                f"the frontend at {address} was not ready after {patience:g} s: {words}", hint=hint
            )
        case FrontendFailure.TLS:
            return TlsRejected(f"no TLS connection to the frontend at {address}: {words}", hint=hint)
        case FrontendFailure.FORBIDDEN:
            return FrontendRefused(f"the frontend at {address} denied the request: {words}", hint=hint)
        case FrontendFailure.MISNAMED:
            return SettingsError(f"{words} (frontend {address})", hint=hint)
        case FrontendFailure.FOREIGN:
            return FrontendRefused(f"no frontend answers at {address}: {words}", hint=hint)


def _explain_status(error: RPCError, address: str) -> MigratorError:
    """Return the error for a call that failed, by its gRPC status."""
    text = error.message.rstrip(".") or error.status.name
    refused = f"the frontend at {address} rejected the request: {text}"
    match error.status.name:
        case "NOT_FOUND":
            return NotFound(refused)
        case "ALREADY_EXISTS":
            return AlreadyExists(refused)
        case "PERMISSION_DENIED" | "UNAUTHENTICATED":
            return FrontendRefused(f"the frontend at {address} denied the request: {text}", hint=_MAY)
        case "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" | "UNIMPLEMENTED":
            return NamespaceRefused(refused)
        case _:
            return FrontendUnavailable(f"the frontend at {address} failed: {text}", hint="run it again")

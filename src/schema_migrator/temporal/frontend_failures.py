"""Derives the cause of a failed call to Temporal's frontend from the client library's texts and gRPC's status."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING

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
    from temporalio.service import RPCError

    from schema_migrator.temporal.credentials import Credentials

_THERE = "is it running, and is the address correct?"
_OUR_CERTIFICATE = "set TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH to a pair that it accepts"
_MAY = "set TEMPORAL_API_KEY, or a client certificate, that may do this"


class FrontendFailure(Enum):
    """Why no frontend answered, as far as that decides what to do next."""

    ABSENT = auto()  # retry until the deadline
    TLS = auto()
    FORBIDDEN = auto()
    FOREIGN = auto()
    MISNAMED = auto()


# The client library reports transport errors only as texts of Rust's tonic and rustls. A failure that this table does
# not recognise is retried until the deadline.
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


class NotReady(Exception):
    """The server answers but is not serving yet."""


async def reason(error: Exception, shown: Credentials) -> tuple[FrontendFailure, str, str]:
    """Return the cause of a failed attempt, a description for people, and the hint."""
    text = str(error)
    if isinstance(error, TimeoutError):
        return FrontendFailure.ABSENT, "no answer", _THERE
    if isinstance(error, NotReady) and not _STATUS.search(text):
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
    """Whether the server answers a TLS handshake in TLS, even if only with an alert."""
    host, _, port = shown.address.rpartition(":")
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - nothing is sent
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=3) as raw:
        try:
            context.wrap_socket(raw, server_hostname=host.strip("[]")).close()
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        return True
    return False


def explain(kind: FrontendFailure, words: str, hint: str, shown: Credentials, patience: float) -> MigratorError:
    """Return the error for a frontend that could not be reached within `patience` seconds."""
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


def explain_status(error: RPCError, address: str) -> MigratorError:
    """Return the error for a failed call, by its gRPC status."""
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

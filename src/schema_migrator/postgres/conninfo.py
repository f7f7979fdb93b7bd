"""Converts settings to libpq's connection parameters."""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from schema_migrator import __version__
from schema_migrator.config import attributes, chart, checks
from schema_migrator.errors import SettingsError
from schema_migrator.identity import tokens

if TYPE_CHECKING:
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.config.sql_fields import SqlSettings

PROGRAM: LiteralString = "schema-migrator/"
"""The prefix of the application_name of every session of this program, whatever its version."""
APPLICATION = f"{PROGRAM}{__version__}"
_LONGEST_NAME = 63  # bytes, NAMEDATALEN - 1
# Where distributions keep the certificate authorities that they trust. psycopg's bundled OpenSSL reads none of these.
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

# With these limits a connection ends within a minute if the network drops its packets. The kernel sends no keepalives
# while sent data is unacknowledged; for that there is a separate limit (tcp(7), TCP_USER_TIMEOUT; milliseconds).
ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}


def session_name(part: str = "") -> str:
    """Return the application_name of a session: the program, its part in a run and, in Kubernetes, the pod.

    PostgreSQL cuts names at 63 bytes. A long pod name loses its beginning, because its end is more specific.
    """
    name = f"{APPLICATION} {part}".strip()
    pod = chart.pod()
    room = _LONGEST_NAME - len(f"{name} in ")
    return f"{name} in {pod[-room:]}" if pod and room > 0 else name


def parameters(settings: StoreSettings) -> dict[str, Any]:
    """Return libpq's parameters, with the password or token of now.

    Raises SettingsError, what `identity.tokens` raises, or OperationalError if a host name cannot be resolved.
    """
    given = settings.sql
    _assert_one_address(settings)
    found = {
        "host": given.host,
        "port": given.port,
        "user": given.user,
        "password": tokens.password(settings),
        "dbname": settings.database,
        "application_name": session_name(),
        **ALIVE,
        **_tls(settings),
        **_certain(settings),
        **_attributes(settings),
        "client_encoding": "utf8",
    }
    known = {name: value for name, value in found.items() if value is not None}
    _assert_role(settings, known)
    return known


def is_local(settings: StoreSettings) -> bool:
    """Whether the server is reached without a network: through a socket or at a loopback address."""
    hosts = os.environ.get("PGHOSTADDR") or settings.sql.host or os.environ.get("PGHOST") or "/"
    return all(map(_is_own, hosts.split(",")))


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip()).is_loopback
    except ValueError:
        return host.strip() in ("", "localhost") or host.strip().startswith(("/", "@"))


def may_go_without_tls(settings: StoreSettings) -> bool:
    """Whether a server that claims to have no TLS still gets the password although no setting allows that."""
    given = settings.attributes
    if settings.sql.tls is not None or {"service", "require_auth"} & given.keys():
        return False
    if {"PGSERVICE", "PGREQUIREAUTH"} & os.environ.keys():
        return False
    return checks.sslmode(given) in ("prefer", "allow")


def _assert_one_address(settings: StoreSettings) -> None:
    """Raise SettingsError if PGHOSTADDR overrides SQL_HOST: libpq would connect to it, but messages name SQL_HOST."""
    if settings.sql.host and os.environ.get("PGHOSTADDR"):
        raise SettingsError(
            f"PGHOSTADDR is set beside SQL_HOST={settings.sql.host}, and libpq would connect to PGHOSTADDR",
            hint="unset PGHOSTADDR; for another name in the certificate set SQL_TLS_SERVER_NAME",
            store=settings.store,
        )


def _assert_role(settings: StoreSettings, known: Mapping[str, Any]) -> None:
    """Raise SettingsError if libpq would use the system user's name as the role, but the system has no name for it."""
    if "user" in known or "service" in known or {"PGUSER", "PGSERVICE"} & os.environ.keys():
        return
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise SettingsError(
            f"no role is set, and this system has no name for user {os.geteuid()}",
            hint="set SQL_USER",
            store=settings.store,
        ) from None


def _tls(settings: StoreSettings) -> dict[str, str]:
    """Convert the vendor's TLS settings to libpq's (postgresql.org/docs/current/libpq-ssl.html)."""
    given = settings.sql
    if given.tls is None:
        return {}
    if not given.tls:
        return {"sslmode": "disable"}
    _assert_readable(settings)
    loose = bool(given.tls_disable_host_verification)
    mode = "verify-full" if not loose else "verify-ca" if given.tls_ca_file else "require"
    found = {"sslmode": mode, "sslcert": given.tls_cert_file, "sslkey": given.tls_key_file}
    if mode != "require":
        found["sslrootcert"] = given.tls_ca_file or _authorities()
    place = given.host or os.environ.get("PGHOST")
    if given.tls_server_name and place and not place.startswith("/"):
        found |= _addressed(given, place)
    return {name: str(value) for name, value in found.items() if value is not None}


def _certain(settings: StoreSettings) -> dict[str, str]:
    """Return the sslmode that was checked for a token; a service file would beat the variable PGSSLMODE."""
    if settings.sql.auth is None or settings.sql.tls is not None:
        return {}
    return {"sslmode": checks.sslmode(settings.attributes)}


def _assert_readable(settings: StoreSettings) -> None:
    for name in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
        path = getattr(settings.sql, name)
        if path is not None and not (os.access(path, os.R_OK) and path.is_file()):
            raise SettingsError(
                f'SQL_{name.upper()} is "{path}", which is not a readable file',
                hint="mount it, or correct the path",
                store=settings.store,
            )


def _authorities() -> str:
    """Return the file with the authorities that this machine trusts; with "system", OpenSSL finds them itself."""
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return "system"
    return next((path for path in _AUTHORITIES if os.access(path, os.R_OK)), "system")


def _addressed(given: SqlSettings, hosts: str) -> dict[str, str]:
    """Return the parameters that connect to the hosts' addresses and expect `tls_server_name` in the certificates.

    Each address gets the port of its host.
    """
    resolved = [_resolve(host.strip()) for host in hosts.split(",")]
    addresses = [address for found in resolved for address in found]
    place = {"host": ",".join([str(given.tls_server_name)] * len(addresses)), "hostaddr": ",".join(addresses)}
    ports = (given.port or os.environ.get("PGPORT") or "").split(",")
    if len(ports) == 1:
        return place
    return place | {"port": ",".join(port for port, found in zip(ports, resolved, strict=False) for _ in found)}


def _resolve(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise psycopg.OperationalError(f"failed to resolve host '{host}': {error}") from error
    return [str(address[0]) for *_, address in found]


def _attributes(settings: StoreSettings) -> dict[str, str]:
    """Return libpq's parameters for the connect attributes (see attributes.REGISTER).

    Names that libpq does not know are server settings; they go into the parameter `options`.
    """
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    given = {n: v for n, v in settings.attributes.items() if n not in attributes.LEFT_OUT}
    found = {name: value for name, value in given.items() if name in known}
    _assert_files(settings, found)
    extra = [f"-c {_escaped(name)}={_escaped(value)}" for name, value in given.items() if name not in known]
    options = [*extra, found.get("options") or (os.environ.get("PGOPTIONS", "") if extra else "")]
    return found | ({"options": " ".join(options).strip()} if extra else {})


def _assert_files(settings: StoreSettings, found: Mapping[str, str]) -> None:
    """Raise SettingsError for an unreadable file: libpq treats some of them as empty, even a revocation list."""
    for name in attributes.FILES:
        path = found.get(name)
        if path and path != "system" and not os.access(path, os.R_OK):
            raise SettingsError(
                f'the connect attribute {name} is "{path}", which cannot be read',
                hint="mount it, or correct the path",
                store=settings.store,
            )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")

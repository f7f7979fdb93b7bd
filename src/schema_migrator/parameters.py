"""Settings to libpq's connection parameters."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from schema_migrator import __version__, chart
from schema_migrator.errors import SettingsError

if TYPE_CHECKING:
    from schema_migrator.options import SqlSettings
    from schema_migrator.settings import StoreSettings

PROGRAM: LiteralString = "schema-migrator/"
"""What the application_name of every session of this program begins with, whatever its version."""
APPLICATION = f"{PROGRAM}{__version__}"
_LONGEST_NAME = 63  # bytes, NAMEDATALEN - 1
# Attributes that the vendor's drivers (lib/pq, pgx) take and that mean nothing to libpq.
_DRIVER_ONLY = frozenset({"binary_parameters", "default_query_exec_mode", "statement_cache_capacity"})
# Where distributions keep the authorities that they trust; psycopg's own OpenSSL looks at none of these.
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

# A network that swallows packets ends a connection within a minute. Keepalives do not go out while something that was
# sent is not acknowledged: that has a limit of its own (tcp(7), TCP_USER_TIMEOUT; milliseconds).
ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}


def session_name(part: str = "") -> str:
    """Return the application_name of a session: the program, its part in a run and, in Kubernetes, the pod.

    PostgreSQL cuts at 63 bytes; of a long pod's name the end tells most.
    """
    name = f"{APPLICATION} {part}".strip()
    pod = chart.pod()
    room = _LONGEST_NAME - len(f"{name} in ")
    return f"{name} in {pod[-room:]}" if pod and room > 0 else name


def parameters(settings: StoreSettings, *, direct: bool = False) -> dict[str, Any]:
    """Return libpq's parameters. Raises SettingsError, or OperationalError where a name leads nowhere."""
    given = settings.sql
    host = (given.direct_host if direct else None) or given.host
    port = (given.direct_port if direct else None) or given.port
    found = {
        "host": host,
        "port": port,
        "user": given.user,
        "password": settings.password(),
        "dbname": settings.database,
        "application_name": session_name(),
        **ALIVE,
        **_tls(settings, host),
        **_attributes(settings),
        "client_encoding": "utf8",
    }
    known = {name: value for name, value in found.items() if value is not None}
    _assert_role(settings, known)
    return known


def _assert_role(settings: StoreSettings, known: Mapping[str, Any]) -> None:
    """Refuse where libpq would take the system user's name for a role, and there is no such name."""
    if "user" in known or "service" in known or {"PGUSER", "PGSERVICE"} & os.environ.keys():
        return
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise SettingsError(
            f"no role is named, and this system has no name for user {os.geteuid()}",
            hint="set SQL_USER",
            store=settings.store,
        ) from None


def _tls(settings: StoreSettings, host: str | None) -> dict[str, str]:
    """Map the vendor's TLS settings to libpq's (postgresql.org/docs/current/libpq-ssl.html)."""
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
    place = host or os.environ.get("PGHOST")
    if given.tls_server_name and place and not place.startswith("/"):
        found |= _addressed(given, place)
    return {name: str(value) for name, value in found.items() if value is not None}


def _assert_readable(settings: StoreSettings) -> None:
    for name in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
        path = getattr(settings.sql, name)
        if path is not None and not (os.access(path, os.R_OK) and path.is_file()):
            raise SettingsError(
                f'SQL_{name.upper()} is "{path}", which is no file that can be read',
                hint="mount it, or correct its path",
                store=settings.store,
            )


def _authorities() -> str:
    """Return the file of the authorities that this machine trusts; "system" lets OpenSSL look by itself."""
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return "system"
    return next((path for path in _AUTHORITIES if os.access(path, os.R_OK)), "system")


def _addressed(given: SqlSettings, hosts: str) -> dict[str, str]:
    """Go to the hosts' addresses, and expect the other name in their certificates."""
    addresses = [address for host in hosts.split(",") for address in _resolve(host.strip())]
    return {"host": ",".join([str(given.tls_server_name)] * len(addresses)), "hostaddr": ",".join(addresses)}


def _resolve(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise psycopg.OperationalError(f"failed to resolve host '{host}': {error}") from error
    return [str(address[0]) for *_, address in found]


def _attributes(settings: StoreSettings) -> dict[str, str]:
    """Split the vendor's connect attributes into libpq's parameters and server settings.

    `search_path` is left out: it is set in each transaction, since poolers refuse it at the start.
    """
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    given = {n: v for n, v in settings.attributes.items() if n not in _DRIVER_ONLY and n != "search_path"}
    found = {name: value for name, value in given.items() if name in known}
    extra = [f"-c {_escaped(name)}={_escaped(value)}" for name, value in given.items() if name not in known]
    return found | ({"options": " ".join([*extra, found.get("options", "")]).strip()} if extra else {})


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")

"""Derives the cause of a failed connection from the texts of libpq and the server."""

from __future__ import annotations

import os
import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from schema_migrator.config import hosts
from schema_migrator.errors import DatabaseUnavailable, PasswordRejected, PreflightFailed, SettingsError, TlsRejected
from schema_migrator.identity.login import told

if TYPE_CHECKING:
    import psycopg

    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.errors import MigratorError

_ATTEMPT = r"- host: ('(?P<host>[^']*)'|None), port: ('(?P<port>[^']*)'|None), hostaddr: ('[^']*'|None): "
_PREAMBLE = re.compile(
    rf"^{_ATTEMPT}|connection (failed|is bad): |connection to server (at|on) .*? failed: |(FATAL|ERROR):  "
)
_PLACES = (
    re.compile(r'connection to server at "(?P<host>[^"]*)".*?, port (?P<port>\d+) failed: '),
    re.compile(r'connection to server on socket "(?P<host>.*)/\.s\.PGSQL\.(?P<port>\d+)" failed: '),
    re.compile(_ATTEMPT),
)


class ConnectFailure(Enum):
    """Why a connection failed, as far as that decides what to do next."""

    ABSENT = auto()  # retry until the deadline
    REJECTED = auto()  # retry briefly
    NO_ROLE = auto()  # retry briefly
    NO_PASSWORD = auto()
    FORBIDDEN = auto()
    TLS = auto()
    MISTAKEN = auto()


# libpq does not expose the SQLSTATE of a failed connection, so this module, and no other, decides by texts.
# A failure that it does not recognise (a server that speaks another language) is retried until the deadline.
_TEXTS = (
    (
        ConnectFailure.FORBIDDEN,
        re.compile(
            r"no pg_hba\.conf entry|pg_hba\.conf rejects|permission denied for database|not permitted to log in"
            r"|not currently accepting connections|(Peer|Ident|GSSAPI|SSPI) authentication failed"
        ),
    ),
    (ConnectFailure.NO_PASSWORD, re.compile(r"no password supplied")),
    (ConnectFailure.TLS, re.compile(r"certificate|private key file|not support SSL|SSL error: (?!unexpected eof)")),
    # All but the first are what Azure says of tokens.
    (
        ConnectFailure.REJECTED,
        re.compile(r"\b(authentication failed|access token|AAD_AUTH_TOKENTYPE|validate AAD user)"),
    ),
    (ConnectFailure.NO_ROLE, re.compile(r'role ".*" does not exist|no such user')),
    (
        ConnectFailure.MISTAKEN,
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
    "not support SSL": "set SQL_TLS=false, or enable ssl on the server",
    "group or world access": "mount its Secret with defaultMode: 0440, owned by root",
    "requires a valid client certificate": "set SQL_TLS_CERT_FILE and SQL_TLS_KEY_FILE",
    "alert certificate required": "set SQL_TLS_CERT_FILE and SQL_TLS_KEY_FILE",
}

_TOKEN_HINTS = {
    "aws": "grant the role rds_iam, allow the identity rds-db:connect for it, and set SQL_HOST to the name of the"
    " endpoint",
    "gcp": "create the role as an IAM user of the instance, and grant its identity roles/cloudsql.instanceUser or"
    " roles/alloydb.databaseUser",
    "azure": "create the role by pgaadauth_create_principal, and set SQL_USER to it",
}


def refusal(error: BaseException | None) -> tuple[ConnectFailure, str]:
    """Return the cause of a failed attempt and the text that shows it; with several hosts, the most telling one."""
    kind, line = _telling(error)
    return kind, _PREAMBLE.sub("", line).strip() or type(error).__name__


def _telling(error: BaseException | None) -> tuple[ConnectFailure, str]:
    """Return the cause of a failed attempt, and the complete line that shows it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    for kind, pattern in _TEXTS:
        for line in lines:
            if pattern.search(_PREAMBLE.sub("", line)):
                return kind, line
    return ConnectFailure.ABSENT, lines[0] if lines else ""


def place_of(error: BaseException, settings: StoreSettings) -> str:
    """Return the address of the server that refused. If the settings name only one host, it is the settings' own."""
    line = _telling(error)[1]
    found = next((match for pattern in _PLACES if (match := pattern.search(line))), None)
    named = settings.sql.host or os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST") or ","
    if found is None or not found["host"] or "," not in named:
        return settings.address
    return settings.at(hosts.bracketed(found["host"]), found["port"])


def explain(error: psycopg.OperationalError, settings: StoreSettings, patience: float) -> MigratorError:
    """Return our error for a connection that could not be opened within `patience` seconds."""
    kind, text = refusal(error)
    place = place_of(error, settings)
    match kind:
        case ConnectFailure.ABSENT:
            return _absent(text, place, settings, patience)
        case ConnectFailure.REJECTED | ConnectFailure.NO_PASSWORD:
            return _password(kind, text, place, settings)
        case ConnectFailure.NO_ROLE:
            return _no_role(text, place, settings)
        case ConnectFailure.FORBIDDEN:
            return _forbidden(text, place, settings)
        case ConnectFailure.TLS:
            hint = next((hint for part, hint in _TLS_HINTS.items() if part in text), "correct the settings SQL_TLS_*")
            return TlsRejected(f"no TLS connection to {place}: {text}", hint=hint, store=settings.store)
        case ConnectFailure.MISTAKEN:
            return mistaken(text, settings)


def _absent(text: str, place: str, settings: StoreSettings, patience: float) -> DatabaseUnavailable:
    hint = "is it running, and is the address correct?"
    if f'"{settings.database}" does not exist' in text or "no such database" in text:
        hint = "create it: schema-migrator create-database"
    elif re.search(r"too many (connections|clients)|connection slots", text):
        hint = "raise that limit, or close other connections: a run needs two for each store"
    return DatabaseUnavailable(
        f"the database at {place} was not available after {patience:g} s: {text}", hint=hint, store=settings.store
    )


def _password_hint(settings: StoreSettings) -> str:
    """Return the hint for a rejected password: what looks wrong with its form, without any part of the password."""
    given = settings.sql.password.get_secret_value() if settings.sql.password else ""
    if given.endswith(("\n", "\r")):
        return (
            "SQL_PASSWORD ends with a line break, which counts as part of it (`echo password | base64` makes one):"
            " write the Secret again with `echo -n`, or with `kubectl create secret generic --from-literal`"
        )
    if given != given.strip():
        return "SQL_PASSWORD starts or ends with a space: is that part of the password?"
    return "make the Secret and the role's password the same"


def _password(kind: ConnectFailure, text: str, place: str, settings: StoreSettings) -> PasswordRejected:
    if settings.sql.auth is not None:
        found = f"the server rejected the token for {place}: {told(text)}"
        return PasswordRejected(found, hint=_TOKEN_HINTS[settings.sql.auth], store=settings.store)
    if kind is ConnectFailure.REJECTED:
        found = f"the server rejected the password for {place}"
        return PasswordRejected(found, hint=_password_hint(settings), store=settings.store)
    return PasswordRejected(
        f"the server asks for a password for {place}, and none is set",
        hint="set SQL_PASSWORD, SQL_PASSWORD_FILE, SQL_PASSWORD_COMMAND or SQL_AUTH",
        store=settings.store,
    )


def _no_role(text: str, place: str, settings: StoreSettings) -> PasswordRejected:
    found = re.search('role "(.*)" does not exist', text)
    if found and settings.user and found[1] != settings.user:
        hint = "correct the role in the connect attributes, in PGOPTIONS, or in the settings of the role that logs in"
    else:
        hint = "create it, or correct SQL_USER"
    name = found[1] if found else settings.user
    return PasswordRejected(f'the server at {place} has no role "{name}"', hint=hint, store=settings.store)


def _forbidden(text: str, place: str, settings: StoreSettings) -> PreflightFailed:
    role = settings.user or "the role"
    if "permission denied for database" in text:
        hint = f'as its owner run: GRANT CONNECT ON DATABASE "{settings.database}" TO "{role}";'
    elif "not permitted to log in" in text:
        hint = f'as a superuser run: ALTER ROLE "{role}" LOGIN;'
    elif "not currently accepting connections" in text:
        hint = f'as a superuser run: ALTER DATABASE "{settings.database}" ALLOW_CONNECTIONS true;'
    else:
        also = " or set SQL_TLS=true" if "no encryption" in text else ""
        hint = f"allow it in the server's pg_hba.conf{also}"
    return PreflightFailed(f"the server refuses this role or host at {place}: {text}", hint=hint, store=settings.store)


def mistaken(text: str, settings: StoreSettings) -> SettingsError:
    """Return the error for a connection parameter that libpq or the server refuses."""
    return SettingsError(
        f"the connection parameters for {settings.address} are refused: {text}",
        hint="correct SQL_CONNECT_ATTRIBUTES, the query of SQL_URI, or libpq's own variables (PG...)",
        store=settings.store,
    )

"""The process of the vendor's binary: its environment and its log. Which calls are made is in `vendor_tool`."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urlencode

from psycopg import sql

from schema_migrator import events
from schema_migrator.errors import SettingsError
from schema_migrator.identity import tokens
from schema_migrator.postgres import pooler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.config.sql_fields import SqlSettings
    from schema_migrator.planning.plan import Plan
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext

_POSTGRES_14 = 140_000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PLAIN = re.compile(r"[\w.~$-]+")
_UNTOLD = frozenset({"logging-call-at", "config", "message", "event", "level"})
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_LEVELS |= {"fatal": logging.ERROR, "panic": logging.ERROR}
_CERTIFICATES = {"sslrootcert": "SQL_TLS_CA_FILE", "sslcert": "SQL_TLS_CERT_FILE", "sslkey": "SQL_TLS_KEY_FILE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the tool's log: a level, a message and values."""

    level: str
    message: str
    values: dict[str, object]


def converse(work: RunContext, command: Sequence[str], environment: dict[str, str]) -> tuple[list[Line], int]:
    """Run a command and log its output as it comes; return the lines and the exit code. A signal ends the command."""
    password = environment["SQL_PASSWORD"]
    lines: list[Line] = []
    with (
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
        ) as process,
        work.interrupt.cancelling(process.terminate),
    ):
        assert process.stdout is not None  # noqa: S101 - stdout is a pipe
        for text in process.stdout:
            line = parse(_masked(text, password))
            lines.append(line)
            events.logger().log(_LEVELS[line.level], "sql_tool.output", message=line.message, **line.values)
    return lines, process.returncode


def _masked(text: str, password: str) -> str:
    """Return the text without the password, whether plain or as the tool escapes it in its URL."""
    forms = [password, quote_plus(password)] if password else []
    return reduce(lambda done, form: done.replace(form, "***"), forms, text)


def parse(text: str) -> Line:
    """Return a parsed line of the tool's log, which has time, level, message and values, separated by tabs.

    A line of any other form is a message of the level debug, or error if it is a panic.
    """
    _, level, message, values, *_ = [*_COLOUR.sub("", text.rstrip("\n")).split("\t"), "", "", "", ""]
    if level.lower() not in _LEVELS:
        return Line(level="error" if text.startswith("panic:") else "debug", message=text.strip(), values={})
    found = _values(values)
    kept = {name: value for name, value in found.items() if name not in _UNTOLD}
    return Line(level=level.lower(), message=message, values=kept)


def _values(text: str) -> dict[str, object]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"values": text}


def environment_of(work: RunContext, plan: Plan) -> dict[str, str]:
    """Return the variables that connect the tool to the same server as ours, with one schema in its search_path.

    Raises SettingsError if the tool cannot connect with them.
    """
    info, given, past = work.conn.info, work.store.sql, pooler.past(work.conn, work.store)
    host, port = given.direct_host or info.host, given.direct_port or info.port
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "SQL_PLUGIN": given.plugin or "postgres12",
        "SQL_HOST": f"[{host}]" if ":" in host else host,
        "SQL_PORT": str(port),
        "SQL_USER": info.user,
        "SQL_PASSWORD": tokens.password(past) or info.password,
        "SQL_DATABASE": past.database,
        "SQL_CONNECT_ATTRIBUTES": urlencode(_attributes(work, plan)),
        **_tls(work.conn),
    }
    _assert_conveyable(environment, given)
    return environment


def _tls(conn: Connection) -> dict[str, str]:
    """Return the TLS variables that match our own connection. 1.29.1 panics if an attribute is sslmode."""
    if not conn.pgconn.ssl_in_use:
        return {}
    own = conn.info.get_parameters()
    files = {name: own[key] for key, name in _CERTIFICATES.items() if own.get(key) not in (None, "", "system")}
    loose = own.get("sslmode") != "verify-full"
    return {"SQL_TLS": "true", "SQL_TLS_DISABLE_HOST_VERIFICATION": str(loose).lower(), **files}


def _attributes(work: RunContext, plan: Plan) -> dict[str, str]:
    """Return the session's settings: one schema, a name by which the next run finds it, and its end with the client."""
    limit = round(work.settings.run.statement_timeout * 1000)
    return {
        "search_path": sql.Identifier(plan.schema).as_string(work.conn),
        "application_name": work.lock.worker,
        **({"statement_timeout": str(limit)} if limit else {}),
        **({"client_connection_check_interval": "5s"} if work.conn.info.server_version >= _POSTGRES_14 else {}),
    }


def _assert_conveyable(environment: dict[str, str], given: SqlSettings) -> None:
    """Raise SettingsError for what the tool ignores or garbles.

    It builds a URL, and escapes only the password, with + for a space.
    """
    if given.tls and given.tls_server_name:
        raise SettingsError(
            "SQL_TLS_SERVER_NAME is set, which the vendor's tool ignores for PostgreSQL",
            hint="connect by the name in the server's certificate, or use the native executor",
        )
    host, password = environment["SQL_HOST"], environment["SQL_PASSWORD"]
    garbled = [name for name in ("SQL_USER", "SQL_DATABASE") if not _PLAIN.fullmatch(environment[name])]
    if " " in password:
        garbled.append("SQL_PASSWORD")
    if garbled:
        raise SettingsError(
            f"{garbled[0]} has a character that the vendor's tool cannot send",
            hint="use the native executor, or another name or password",
        )
    if host.startswith("/"):
        raise SettingsError(
            f'the server is reached through the socket in "{host}", but the vendor\'s tool needs a host',
            hint="set SQL_HOST, or use the native executor",
        )

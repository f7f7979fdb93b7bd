"""Splits a connection URI, such as CloudNativePG stores in its Secrets, into settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from schema_migrator.config import attributes
from schema_migrator.errors import SettingsError

_FIELDS = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
# Like libpq, except that no @ may follow the login: an unescaped password spills over into host, port, database or
# parameters, together with the @ behind it.
_URI = re.compile(r"postgres(ql)?://([^@/]*@)?[^/?@]*(/[^/?@:]*)?(\?(?P<query>[^@]*))?")
_ESCAPE = (
    "expected postgresql://user:password@host:5432/database; in user and password"
    " escape / as %2F, @ as %40, : as %3A, ? as %3F, # as %23 and % as %25"
)


def spread(values: Mapping[str, Any], variable: str, passwords: frozenset[str]) -> dict[str, Any]:
    """Return the values without the URI, completed by the settings that the URI contains. Raises SettingsError.

    The only part of a URI that an error shows is the name of a parameter. If the URI gives a secret as a parameter,
    an error about an unknown or repeated parameter does not show the name either.
    """
    if "uri" not in values:
        return dict(values)
    parts = _parts(str(values["uri"]), variable)
    if "auth" in values and "password" in parts:
        raise SettingsError(
            f"{variable} has a password, but {variable.removesuffix('URI')}AUTH is set too, expected one of them",
            hint="remove the password from the URI, or unset the other one",
        )
    if passwords & values.keys():
        parts.pop("password", None)
    given = {name: value for name, value in values.items() if name != "uri"}
    both = [settings["connect_attributes"] for settings in (given, parts) if "connect_attributes" in settings]
    return parts | given | ({"connect_attributes": merged(*both)} if both else {})


def merged(*queries: str) -> str:
    """Return one query string from several. If several give the same parameter, the first one wins."""
    names: set[str] = set()
    kept = []
    for query in queries:
        pairs = [pair for pair in query.split("&") if _name(pair) not in names]
        names |= {_name(pair) for pair in pairs}
        kept += pairs
    return "&".join(kept)


def _name(pair: str) -> str:
    return unquote(pair.partition("=")[0])


def _parts(uri: str, variable: str) -> dict[str, Any]:
    """Split a URI into settings. Parameters without a setting of their own become connect attributes."""
    whole = _URI.fullmatch(uri)
    if whole is None:
        raise _none(variable)
    query = whole["query"] or ""
    _check_names([_name(pair) for pair in query.split("&")] if query else [], variable)
    kept = "&".join(pair for pair in query.split("&") if _name(pair) not in attributes.LEFT_OUT)
    start = uri[: whole.start("query")] if query else uri
    try:
        parsed = conninfo_to_dict(start + kept)
    except (psycopg.Error, UnicodeError):
        raise _none(variable) from None
    # The port is always set, so that the port of another URI, such as the common one, never applies to this host.
    parts = {_FIELDS[name]: value for name, value in parsed.items() if name in _FIELDS}
    parts["port"] = _ports(str(parsed.get("port", "")), variable)
    rest = {name: str(value) for name, value in parsed.items() if name not in _FIELDS}
    rest |= {name: value for name, value in parse_qsl(query) if name in attributes.LEFT_OUT}
    return parts | ({"connect_attributes": urlencode(rest)} if rest else {})


def _check_names(names: list[str], variable: str) -> None:
    if not all(map(attributes.is_name, names)):
        raise _none(variable)
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} | attributes.NAMES.keys()
    strange = next((name for name in names if name not in known and name != "ssl"), None)
    doubled = next((name for name in names if names.count(name) > 1), None)
    if (strange or doubled) and attributes.SECRET & set(names):  # the name may be the rest of an unescaped secret
        raise _none(variable)
    if strange:
        raise SettingsError(
            f'{variable} gives "{strange}", which is not a libpq connection parameter',
            hint="remove it from the URI; a server setting belongs in SQL_CONNECT_ATTRIBUTES",
        )
    if doubled:
        raise SettingsError(f'{variable} gives "{doubled}" twice', hint="set it once")
    attributes.refuse(names, variable)


def _ports(text: str, variable: str) -> str:
    """Return the ports of a URI's hosts, 5432 for a host without one. The error for a wrong port does not show it."""
    ports = [port or "5432" for port in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,5}", port) for port in ports):
        raise _none(variable)
    return ",".join(ports)


def _none(variable: str) -> SettingsError:
    return SettingsError(f"{variable} is not a connection URI, or its password is not escaped", hint=_ESCAPE)

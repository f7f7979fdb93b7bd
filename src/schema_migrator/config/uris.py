"""A connection URI, such as CloudNativePG keeps in its Secrets, taken apart into settings."""

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
# As libpq takes it apart, but for an @ after the login: a password that is not escaped runs on into host, port,
# database or parameters, and its @ with it.
_URI = re.compile(r"postgres(ql)?://([^@/]*@)?[^/?@]*(/[^/?@:]*)?(\?(?P<query>[^@]*))?")
_ESCAPE = (
    "expected postgresql://user:password@host:5432/database; in user and password"
    " escape / as %2F, @ as %40, : as %3A, ? as %3F, # as %23 and % as %25"
)


def spread(values: Mapping[str, Any], variable: str, passwords: frozenset[str]) -> dict[str, Any]:
    """Return the values with what the URI among them says where they do not. Raises SettingsError.

    No error shows any part of the URI but the name of a parameter, and none of a URI that gives a secret that way.
    """
    if "uri" not in values:
        return dict(values)
    said = _parts(str(values["uri"]), variable)
    if passwords & values.keys():
        said.pop("password", None)
    given = {name: value for name, value in values.items() if name != "uri"}
    both = [place["connect_attributes"] for place in (given, said) if "connect_attributes" in place]
    return said | given | ({"connect_attributes": merged(*both)} if both else {})


def merged(*queries: str) -> str:
    """Return one query string of several; of a parameter that several give, the first counts."""
    taken: set[str] = set()
    kept = []
    for query in queries:
        pairs = [pair for pair in query.split("&") if _name(pair) not in taken]
        taken |= {_name(pair) for pair in pairs}
        kept += pairs
    return "&".join(kept)


def _name(pair: str) -> str:
    return unquote(pair.partition("=")[0])


def _parts(uri: str, variable: str) -> dict[str, Any]:
    """Take a URI apart; what has no setting of its own becomes connect attributes."""
    whole = _URI.fullmatch(uri)
    if whole is None:
        raise _none(variable)
    query = whole["query"] or ""
    _check_names([_name(pair) for pair in query.split("&")] if query else [], variable)
    kept = "&".join(pair for pair in query.split("&") if _name(pair) not in attributes.LEFT_OUT)
    start = uri[: whole.start("query")] if query else uri
    try:
        found = conninfo_to_dict(start + kept)
    except (psycopg.Error, UnicodeError):
        raise _none(variable) from None
    # A place is whole: another URI's port is not this one's.
    said = {_FIELDS[name]: value for name, value in found.items() if name in _FIELDS}
    said["port"] = _ports(str(found.get("port", "")), variable)
    rest = {name: str(value) for name, value in found.items() if name not in _FIELDS}
    rest |= {name: value for name, value in parse_qsl(query) if name in attributes.LEFT_OUT}
    return said | ({"connect_attributes": urlencode(rest)} if rest else {})


def _check_names(names: list[str], variable: str) -> None:
    if not all(map(attributes.is_name, names)):
        raise _none(variable)
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} | attributes.NAMES.keys()
    strange = next((name for name in names if name not in known and name != "ssl"), None)
    doubled = next((name for name in names if names.count(name) > 1), None)
    if (strange or doubled) and attributes.SECRET & set(names):  # it may be the rest of a value that is not escaped
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
    """Return the ports of a URI's hosts, with the default one where a host has none; never shown when wrong."""
    ports = [port or "5432" for port in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,5}", port) for port in ports):
        raise _none(variable)
    return ",".join(ports)


def _none(variable: str) -> SettingsError:
    return SettingsError(f"{variable} is not a connection URI, or its password is not escaped", hint=_ESCAPE)

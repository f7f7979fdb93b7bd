"""A connection URI, such as CloudNativePG keeps in its Secrets, taken apart into settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from schema_migrator.errors import SettingsError

_FIELDS = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
_SCHEMES = ("postgresql://", "postgres://")


def spread(values: Mapping[str, Any], variable: str, passwords: frozenset[str]) -> dict[str, Any]:
    """Return the values with what the URI among them says where they do not. Raises SettingsError."""
    if "uri" not in values:
        return dict(values)
    said = _parts(str(values["uri"]), variable)
    if passwords & values.keys():
        said.pop("password", None)
    return said | {name: value for name, value in values.items() if name != "uri"}


def _parts(uri: str, variable: str) -> dict[str, Any]:
    """Take a URI apart; what has no setting of its own becomes connect attributes."""
    try:
        found = conninfo_to_dict(uri) if uri.startswith(_SCHEMES) else {}
    except psycopg.Error:
        found = {}
    # An @ or a colon that is not escaped lets a password run on into host and port; psycopg's words may show it too.
    place = f"{found.get('host', '')}{found.get('dbname', '')}"
    if not found or "@" in place or re.search(r"[^0-9,]", str(found.get("port", ""))):
        raise SettingsError(
            f"{variable} is no connection URI", hint="expected postgresql://user:password@host:5432/database"
        )
    # A place is whole: another URI's port is not this one's.
    said = {"port": "5432"} | {_FIELDS[name]: value for name, value in found.items() if name in _FIELDS}
    rest = {name: str(value) for name, value in found.items() if name not in _FIELDS}
    return said | ({"connect_attributes": urlencode(rest)} if rest else {})

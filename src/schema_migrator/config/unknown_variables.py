"""Finds environment variables that look like settings of this program but are not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from schema_migrator.errors import SettingsError

# Kubernetes sets these variables for every Service, unless enableServiceLinks is false
# (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_LINK_NAME = re.compile(r"\w*_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")
_BARE_PORT = re.compile(r"\w+(?<!_SERVICE)(?<!_TCP)(?<!_UDP)(?<!_SCTP)_PORT")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")
_VENDOR_NAME = re.compile(r"(DEFAULT_|(SECONDARY_)?VISIBILITY_)?SQL_\w+")
_MOST_EDITS = 2
# Variables that the vendor's server reads from the same environment, within two edits of one of our names (SQL_PORT).
_OF_THE_SERVER = frozenset({"SQL_CERT"})


def service_link(name: str, value: object) -> SettingsError | None:
    """Return the error to raise if a variable's value is a Kubernetes service link; None if it is not."""
    if not (isinstance(value, str) and _LINK_VALUE.match(value)):
        return None
    service = name.removesuffix("_PORT").lower().replace("_", "-")
    return SettingsError(
        f'{name} is "{value}", which Kubernetes wrote for a Service named "{service}", not a port',
        hint=f"set {name} yourself or set enableServiceLinks: false in the pod",
    )


def refuse_unknown(environ: Mapping[str, str], known: frozenset[str], prefix: str) -> None:
    """Raise SettingsError for a variable that is meant for this program but that the program does not read.

    That is any other variable with our prefix, except service links and the test suite's variables, and any SQL_*
    variable within two edits of a known name.
    """
    for name in sorted(name for name in environ.keys() - known if environ[name]):
        upper = name.upper()  # a name in lower case is another variable, which the program does not read
        if _ours(upper, environ[name], prefix) or _misspelt(upper, environ[name], known):
            hint = f"did you mean {upper}?" if upper in known else _suggestion(upper, known)
            raise SettingsError(f"{name} is set, but there is no such setting", hint=hint)


def _ours(name: str, value: str, prefix: str) -> bool:
    return name.startswith(prefix) and not name.startswith(f"{prefix}TEST_") and not _is_link(name, value)


def _misspelt(name: str, value: str, known: frozenset[str]) -> bool:
    if not _VENDOR_NAME.fullmatch(name) or name in _OF_THE_SERVER or _is_link(name, value):
        return False
    return _distance(name, _nearest(name, known)) <= _MOST_EDITS


def _is_link(name: str, value: str) -> bool:
    if not _LINK_NAME.fullmatch(name):
        return False
    # A name such as X_PORT, without a protocol or _SERVICE, could also be a setting.
    return bool(_LINK_VALUE.match(value)) or not _BARE_PORT.fullmatch(name)


def _suggestion(name: str, known: frozenset[str]) -> str:
    begun = sorted(other for other in known if other.startswith(f"{name}_"))
    near = _nearest(name, known)
    if begun or _distance(name, near) <= _MOST_EDITS:
        return f"did you mean {begun[0] if begun else near}?"
    return "unset it (schema-migrator migrate --help lists all settings)"


def _nearest(name: str, known: frozenset[str]) -> str:
    return min(sorted(known), key=lambda other: _distance(name, other))


def _distance(one: str, other: str) -> int:
    """Return the Levenshtein distance of two names."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]

"""What the program knows about the Helm chart that runs it: the values behind its settings, its Secrets, its pod.

The chart's Jobs set SCHEMA_MIGRATOR_CHART to the Job's name, followed by `VARIABLE=secret/key` for each variable that
comes from a Secret, separated by blanks. The pod marks these references as optional, so that the program can report
what is missing. Otherwise Kubernetes would not start the container, and the program could report nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from schema_migrator.config.fields import PREFIX
from schema_migrator.config.options import client_options, flag_of, run_options, scope_of, sql_options
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

VARIABLE = f"{PREFIX}CHART"

_ELSEWHERE = {
    "TEMPORAL_VERSION": "serverVersion",
    f"{PREFIX}SOURCES": "schemaFiles.image",
    f"{PREFIX}ACCEPTED": "accepted",
    f"{PREFIX}REHEARSE_ON": "rehearseOn.existingSecret",
    f"{PREFIX}HOLD_CUTOVER": "mode",
    f"{PREFIX}HOLD_TIMEOUT": "prepare.holdTimeout",
    f"{PREFIX}CUTOVER_WINDOW": "prepare.cutoverWindow",
}
"""The settings of a run whose value is not in `settings` under the same name."""
_CONNECTION = {
    "URI": "uriKey",
    "PASSWORD": "existingSecret",
    "TLS": "tls.enabled",
    "TLS_CA_FILE": "tls.caKey",
    "TLS_CERT_FILE": "tls.certKey",
    "TLS_KEY_FILE": "tls.keyKey",
    "TLS_SERVER_NAME": "tls.serverName",
    "TLS_DISABLE_HOST_VERIFICATION": "tls.disableHostVerification",
}
"""The settings of a connection whose value is not in `connection` under the same name."""
_SECTIONS = {
    Store.DEFAULT: "databases.default",
    Store.VISIBILITY: "databases.visibility",
    Store.SECONDARY_VISIBILITY: "databases.secondaryVisibility",
}
_NAMESPACES = {
    "TEMPORAL_API_KEY": "apiKey.existingSecret",
    "TEMPORAL_TLS": "tls.enabled",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH": "tls.caKey",
    "TEMPORAL_TLS_CLIENT_CERT_PATH": "tls.certKey",
    "TEMPORAL_TLS_CLIENT_KEY_PATH": "tls.keyKey",
    "TEMPORAL_TLS_SERVER_NAME": "tls.serverName",
}
"""The settings of a client whose value is not in `namespaceBootstrap` under the same name."""
_OF_ONE_JOB = {
    "preflight": {f"{PREFIX}WAIT_TIMEOUT": "preflight.waitTimeout"},
    "drift": {f"{PREFIX}METRICS_FILE": "driftCheck.metrics.volume"},
    "namespaces": {
        f"{PREFIX}WAIT_TIMEOUT": "namespaceBootstrap.waitTimeout",
        f"{PREFIX}ON_DRIFT": "namespaceBootstrap.onDifference",
    },
}
"""The settings that have a separate chart value in one Job, by the Job's name."""
_KEYS = {
    "HOST": "connection.hostKey",
    "PORT": "connection.portKey",
    "USER": "connection.userKey",
    "PASSWORD": "connection.passwordKey",
}
"""The chart values that name a key of a Secret, for settings that have another value too."""

# The name of a setting in a message, with its value if the message gives one.
_NAMED = re.compile(
    r"(?<![\w.-])(--[a-z][a-z0-9-]*[a-z0-9](?: (?:online|in-place|warn|fail|off|\d+(?:\.\d+)*)\b)?"
    r"|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"
    r"(?![\w-])(=[\w/-]+(?:\.[\w/-]+)*)?"
)

_CREATES = "schema-migrator create-database"
_COMMAND = re.compile(
    r"schema-migrator ((?:verify|status|plan|migrate --abandon|rewrite \w+)"
    rf"(?: --(?:{'|'.join(Store)})-target-version [\d.]*\d)?)"
)


def values(job: str = "") -> dict[str, str]:
    """Return the name of the chart value of each variable in a Job, by the variable's name.

    `make docs` writes the values, their schema and their variables into the chart for those that have the same name.
    """
    names = {option.variable: f"settings.{camel(option.variable)}" for option in run_options()} | _ELSEWHERE
    names[f"{PREFIX}STORES"] = _of_every_store("enabled")
    names |= {option.variable: f"namespaceBootstrap.{_of_client(option.variable)}" for option in client_options()}
    fields = {option.variable.removeprefix("SQL_") for option in sql_options()} - {"DATABASE"}
    connection = {name: f"connection.{_CONNECTION.get(name, camel(name))}" for name in fields}
    names |= {f"SQL_{name}": value for name, value in connection.items()}
    names["SQL_DATABASE"] = _of_every_store("database")
    for store, section in _SECTIONS.items():
        names |= {scope_of(store) + name: f"{section}.{value}" for name, value in connection.items()}
        names |= {f"{scope_of(store)}DATABASE": f"{section}.database"}
        names |= {f"{store.prefix}_TARGET_VERSION": f"{section}.targetVersion"}
    return names | _OF_ONE_JOB.get(job, {})


def camel(variable: str) -> str:
    """Return a variable's name as the chart writes it.

    >>> camel("SCHEMA_MIGRATOR_MAX_LOCK_SECONDS")
    'maxLockSeconds'
    """
    first, *others = variable.removeprefix(PREFIX).lower().split("_")
    return first + "".join(map(str.capitalize, others))


def _of_client(variable: str) -> str:
    return _NAMESPACES.get(variable, camel(variable.removeprefix("TEMPORAL_")))


def _of_every_store(value: str) -> str:
    return " and ".join(f"{section}.{value}" for section in _SECTIONS.values())


def named(text: str) -> str:
    """Return a message for readers who use the chart; outside of the chart, return it unchanged.

    It gives the chart value behind each setting, and how to run a command that the message names.

    >>> named("set TEMPORAL_VERSION")  # in the chart's Job
    'set TEMPORAL_VERSION (in the chart: serverVersion)'
    """
    context = os.environ.get(VARIABLE)
    return _named(text, context.split()[0]) if context and context.strip() else text


def _named(text: str, job: str) -> str:
    known, seen = _by_name(job), set[str]()

    def beside(found: re.Match[str]) -> str:
        name = found[1].split()[0]
        value = known.get(name)
        if value is None or name in seen:
            return found[0]
        seen.add(name)
        return f"{found[0]} (in the chart: {value})"

    said = _NAMED.sub(beside, text).replace(_CREATES, f"{_CREATES} (in the chart: createDatabase)", 1)
    command = _COMMAND.search(text)
    if command is None or not pod():
        return said
    copy = f"kubectl debug -it {pod()} --copy-to=look --container={job} -- {command[0]}"
    return f"{said}; in this cluster, from a copy of the pod: {copy}"


@cache
def _by_name(job: str) -> Mapping[str, str]:
    """Return the names of the chart values by variable and by flag."""
    own = values(job)
    return {**{flag_of(name): value for name, value in own.items()}, **own}


def assert_secrets(environ: Mapping[str, str]) -> None:
    """Raise SettingsError if a Secret that the chart refers to does not exist or lacks a key; it names each of them."""
    asked: dict[str, dict[str, str]] = {}
    for word in environ.get(VARIABLE, "").split():
        variable, is_reference, place = word.partition("=")
        if is_reference:
            secret, _, key = place.partition("/")
            asked.setdefault(secret, {})[variable] = key
    lacking = {
        secret: found
        for secret, keys in asked.items()
        if (found := {name: key for name, key in keys.items() if not _is_there(name, environ)})
    }
    if lacking:
        sentences = [_lacks(secret, found, asked[secret]) for secret, found in lacking.items()]
        places = sorted({_place(name) for found in lacking.values() for name in found})
        raise SettingsError(
            "; ".join(sentences),
            hint=f"create it in the Job's namespace, or correct the chart's {' and '.join(places)}",
        )


def _is_there(variable: str, environ: Mapping[str, str]) -> bool:
    value = environ.get(variable, "")
    return Path(value).exists() if value and variable.endswith(("_FILE", "_PATH")) else bool(value.strip())


def _lacks(secret: str, found: Mapping[str, str], asked: Mapping[str, str]) -> str:
    """Return the sentence that says what is missing.

    From inside the pod, a Secret that does not exist looks the same as a Secret without the keys.
    """
    keys = sorted(set(found.values()))
    listed = f"key {keys[0]}" if len(keys) == 1 else f"keys {', '.join(keys)}"
    if len(found) == len(asked):
        return f"there is no Secret {secret}, or it has no {listed}"
    return f"Secret {secret} has no {listed}"


def _place(variable: str) -> str:
    """Return the name of the chart value that sets the Secret's key for a variable."""
    _, _, name = variable.partition("_SQL_")
    if not name:
        return values()[variable]
    return _KEYS.get(name, values()[f"SQL_{name}"])


def pod() -> str:
    """Return the name of the pod in which the program runs; empty outside of Kubernetes."""
    return os.environ.get("HOSTNAME", "") if "KUBERNETES_SERVICE_HOST" in os.environ else ""

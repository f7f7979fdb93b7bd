"""What the program knows of the Helm chart that runs it: the values behind its settings, its Secrets, its pod.

The chart's Jobs set SCHEMA_MIGRATOR_CHART: the Job's name, then for each variable that comes from a Secret
`VARIABLE=secret/key`, separated by blanks. The references are optional in the pod: the program says what is missing,
where Kubernetes would keep the pod waiting in silence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from schema_migrator.config.fields import PREFIX
from schema_migrator.config.options import all_options, flag_of, scope_of
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

VARIABLE = f"{PREFIX}CHART"

_SETTINGS = {
    "EXECUTOR": "executor",
    "WAIT_TIMEOUT": "waitTimeout",
    "LOCK_TIMEOUT": "lockTimeout",
    "MAX_LOCK_SECONDS": "maxLockSeconds",
    "REWRITE": "rewrite",
    "ON_DRIFT": "onDrift",
    "ADOPT": "adopt",
    "NO_VERIFY": "noVerify",
    "ALLOW_OLDER_TARGETS": "allowOlderTargets",
    "LOG_LEVEL": "logLevel",
}
_CONNECTION = {
    "URI": "uriKey",
    "HOST": "host",
    "PORT": "port",
    "USER": "user",
    "PASSWORD": "existingSecret",
    "PASSWORD_COMMAND": "passwordCommand",
    "CONNECT_ATTRIBUTES": "connectAttributes",
    "DIRECT_HOST": "directHost",
    "TLS": "tls.enabled",
    "TLS_CA_FILE": "tls.caKey",
    "TLS_CERT_FILE": "tls.certKey",
    "TLS_KEY_FILE": "tls.keyKey",
    "TLS_SERVER_NAME": "tls.serverName",
    "TLS_DISABLE_HOST_VERIFICATION": "tls.disableHostVerification",
}
_STORES = " and ".join(f"databases.{store}.{{}}" for store in Store)
_NAMESPACES = {
    "TEMPORAL_ADDRESS": "address",
    "TEMPORAL_API_KEY": "apiKey.existingSecret",
    "TEMPORAL_TLS": "tls.enabled",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH": "tls.caKey",
    "TEMPORAL_TLS_CLIENT_CERT_PATH": "tls.certKey",
    "TEMPORAL_TLS_CLIENT_KEY_PATH": "tls.keyKey",
    "TEMPORAL_TLS_SERVER_NAME": "tls.serverName",
    f"{PREFIX}NAMESPACES": "namespaces",
}
_OF_ONE_JOB = {
    "preflight": {f"{PREFIX}WAIT_TIMEOUT": "preflight.waitTimeout"},
    "namespaces": {
        f"{PREFIX}WAIT_TIMEOUT": "namespaceBootstrap.waitTimeout",
        f"{PREFIX}ON_DRIFT": "namespaceBootstrap.onDifference",
    },
}
"""Settings that have a value of their own for one Job, by the Jobs' names."""
_KEYS = {"HOST": "hostKey", "PORT": "portKey", "USER": "userKey", "PASSWORD": "passwordKey"}
"""Values that name a Secret's key, where that is not the value of the setting itself."""
ANY = "extraEnv"
"""The chart's value that sets whatever has no value of its own."""

# A setting as messages name it, with the value that some of them give it.
_NAMED = re.compile(
    r"(?<![\w.-])(--[a-z][a-z0-9-]*[a-z0-9](?: (?:online|in-place|warn|fail|off|\d+(?:\.\d+)*)\b)?"
    r"|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"
    r"(?![\w-])(=[\w/-]+(?:\.[\w/-]+)*)?"
)

_CREATES = "schema-migrator create-database"
_COMMAND = re.compile(
    r"schema-migrator ((?:verify|status|plan|migrate --abandon)(?: --(?:default|visibility)-target-version [\d.]*\d)?)"
)


def values(job: str = "") -> dict[str, str]:
    """Return the chart's value for each variable of ours that has one, in the Job of that name."""
    found = {PREFIX + name: f"settings.{value}" for name, value in _SETTINGS.items()}
    found |= {name: f"namespaceBootstrap.{value}" for name, value in _NAMESPACES.items()}
    found |= {"TEMPORAL_VERSION": "serverVersion", f"{PREFIX}STORES": _STORES.format("enabled", "enabled")}
    found |= {f"SQL_{name}": f"connection.{value}" for name, value in _CONNECTION.items()}
    found["SQL_DATABASE"] = _STORES.format("database", "database")
    for store in Store:
        mine = f"databases.{store}"
        found |= {scope_of(store) + name: f"{mine}.connection.{value}" for name, value in _CONNECTION.items()}
        found |= {f"{scope_of(store)}DATABASE": f"{mine}.database"}
        found |= {f"{store.upper()}_TARGET_VERSION": f"{mine}.targetVersion"}
    return found | _OF_ONE_JOB.get(job, {})


def named(text: str) -> str:
    """Return a message as it helps in the chart: its value beside each setting, and how to run a command that is named.

    >>> named("set TEMPORAL_VERSION")  # in the chart's Job
    'set TEMPORAL_VERSION (in the chart: serverVersion)'
    """
    told = os.environ.get(VARIABLE)
    return _named(text, told.split()[0]) if told and told.strip() else text


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
    """Return the chart's values by the names of variables and of flags."""
    found = values(job)
    made = {option.variable: found.get(option.variable, ANY) for option in all_options()}
    flags = {flag_of(name): value if value != ANY else f"{name} in {ANY}" for name, value in made.items()}
    return {**flags, **made}


def assert_secrets(environ: Mapping[str, str]) -> None:
    """Raise SettingsError that names each Secret of the chart's which does not exist, or lacks a key."""
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
    """Say what is missing; a pod sees of a Secret that is not there what it sees of one without the keys."""
    keys = sorted(set(found.values()))
    listed = f"key {keys[0]}" if len(keys) == 1 else f"keys {', '.join(keys)}"
    if len(found) == len(asked):
        return f"there is no Secret {secret}, or it has no {listed}"
    return f"Secret {secret} has no {listed}"


def _place(variable: str) -> str:
    """Return the chart's value that names the key of a variable's Secret."""
    _, _, name = variable.partition("_SQL_")
    if not name:
        return values().get(variable, ANY)
    return f"connection.{_KEYS.get(name, _CONNECTION.get(name, name))}"


def pod() -> str:
    """Return the name of the pod that the program runs in; empty outside of Kubernetes."""
    return os.environ.get("HOSTNAME", "") if "KUBERNETES_SERVICE_HOST" in os.environ else ""

"""Checks of settings that depend on one another, before the program contacts any server."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from schema_migrator.config import attributes
from schema_migrator.errors import SettingsError

if TYPE_CHECKING:
    from schema_migrator.config.fields import RunSettings
    from schema_migrator.config.sql_fields import SqlSettings
    from schema_migrator.releases.source import Store

_NEEDS_TLS = ("tls_ca_file", "tls_cert_file", "tls_key_file", "tls_server_name", "tls_disable_host_verification")


def check_backup(run: RunSettings) -> None:
    """Raise SettingsError if a backup is required and nothing reports it, or the other way round."""
    if (run.require_backup_within is None) != (run.backup_command is None):
        raise SettingsError(
            "only one of --require-backup-within and --backup-command is set, expected both or none",
            hint="set the other one too",
        )


def check_place(sql: SqlSettings, scope: str) -> None:
    """Raise SettingsError if a name is a URL or contains a login, or a host contains a port."""
    hosts = {"HOST": sql.host, "DIRECT_HOST": sql.direct_host}
    for name, value in (hosts | {"USER": sql.user, "DATABASE": sql.database}).items():
        # The value may contain a password, so the error does not show it. An @ alone is legal in a role's name.
        login = _has_login(value or "") if name in hosts else re.search("[:/].*@", value or "")
        if value and ("://" in value or login):
            raise SettingsError(
                f"{scope}{name} is a URL, expected a name",
                hint=f"set {scope}HOST, {scope}PORT, {scope}USER, {scope}PASSWORD and {scope}DATABASE one by one",
            )
        if value and name in hosts and re.search(r"(^|,)(\[[^],]*\]|[^]:/,]+):\d*(,|$)", value):
            raise SettingsError(
                f"{scope}{name} has a port, expected a name or address alone",
                hint=f"set the port in {scope}{name.replace('HOST', 'PORT')}",
            )


def _has_login(hosts: str) -> bool:
    """Return whether a host contains an @, other than the one that begins the name of an abstract socket."""
    return "@" in hosts and not all(re.fullmatch(r"\s*@[^@]*", host) for host in hosts.split(","))


def check_ports(sql: SqlSettings, store: Store) -> None:
    """Raise SettingsError unless there is one port for all hosts, or one port for each host."""
    for kind, host, port in (("", sql.host, sql.port), ("DIRECT_", sql.direct_host or sql.host, sql.direct_port)):
        hosts, ports = len((host or os.environ.get("PGHOST") or "").split(",")), len((port or "").split(","))
        if ports not in (1, hosts):
            raise SettingsError(
                f"SQL_{kind}PORT has {ports} ports for {hosts} host(s), expected one for all or one for each",
                hint=f"correct SQL_{kind}HOST or SQL_{kind}PORT",
                store=store,
            )


def check_attributes(sql: SqlSettings, scope: str) -> None:
    """Raise SettingsError if the connect attributes are not a query string, duplicate a setting, or are refused."""
    name = f"{scope}CONNECT_ATTRIBUTES"
    if sql.connect_attributes is None:
        return
    try:
        pairs = parse_qsl(sql.connect_attributes, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        pairs = []
    names = [key for key, _ in pairs]
    if not pairs or not all(map(attributes.is_name, names)) or any("\0" in value for _, value in pairs):
        raise SettingsError(f"{name} is not a query string", hint="expected name=value pairs joined by &")
    attributes.refuse(names, name, settings=scope)
    doubled = next((key for key in names if names.count(key) > 1), None)
    if doubled:
        raise SettingsError(f'{name} gives "{doubled}" twice', hint="set it once")


def check_tls(sql: SqlSettings, store: Store) -> None:
    """Raise SettingsError if TLS settings would have no effect or contradict one another."""
    given = [f"SQL_{name.upper()}" for name in _NEEDS_TLS if getattr(sql, name) not in (None, False)]
    if given and sql.tls is None:
        raise SettingsError(
            f"{given[0]} is set, but SQL_TLS is not",
            hint="set SQL_TLS=true to use it, or SQL_TLS=false to connect without TLS",
            store=store,
        )
    if (sql.tls_cert_file is None) != (sql.tls_key_file is None):
        raise SettingsError(
            "only one of SQL_TLS_CERT_FILE and SQL_TLS_KEY_FILE is set, expected both or none",
            hint="set the other one too",
            store=store,
        )
    said = dict(parse_qsl(sql.connect_attributes or "", keep_blank_values=True))
    _check_twice(sql, said, store)
    _check_ignored(sql, said, store)


def _check_twice(sql: SqlSettings, said: dict[str, str], store: Store) -> None:
    beside = next((key for key in said if key in attributes.BY_SQL_TLS), None)
    unused = next((key for key in said if key.startswith("ssl")), None) if sql.tls is False else None
    if (beside and sql.tls is not None) or unused:
        raise SettingsError(
            f'the connect attributes give "{beside or unused}" beside SQL_TLS, expected only one of them to'
            " configure TLS",
            hint="unset one of them",
            store=store,
        )


def _check_ignored(sql: SqlSettings, said: dict[str, str], store: Store) -> None:
    """Raise SettingsError for a parameter that configures certificate checks if libpq might connect without them."""
    idle = next((key for key in attributes.CHECKING if said.get(key) not in (None, "system")), None)
    loose = bool(sql.tls_disable_host_verification) and not sql.tls_ca_file
    if idle and sql.tls and loose:
        raise SettingsError(
            f'the connect attributes give "{idle}", but without an authority no certificate is checked',
            hint="set SQL_TLS_CA_FILE",
            store=store,
        )
    if idle and sql.tls is None and sslmode(said) not in attributes.CERTAIN:
        raise SettingsError(
            f'the connect attributes give "{idle}", but a server without TLS is accepted as well',
            hint="add sslmode=verify-full, or set SQL_TLS=true in place of the attributes",
            store=store,
        )


def sslmode(said: dict[str, str]) -> str:
    """Return the sslmode that libpq uses, unless a service file sets another one."""
    strict = "verify-full" if said.get("sslrootcert") == "system" else "prefer"
    return said.get("sslmode") or os.environ.get("PGSSLMODE") or strict

"""Reads flags and environment variables into one frozen value.

A flag overrides a variable, and a store's own setting overrides the common one. Empty means unset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from schema_migrator.config import (
    accepted,
    chart,
    checks,
    hosts,
    passwords,
    rehearsal_place,
    selection,
    token_checks,
    uris,
)
from schema_migrator.config.client_fields import ClientSettings
from schema_migrator.config.fields import PREFIX, RunSettings
from schema_migrator.config.options import (
    all_options,
    client_options,
    flag_of,
    read_environment,
    run_options,
    scope_of,
)
from schema_migrator.config.sql_fields import PASSWORDS, SqlSettings
from schema_migrator.config.unknown_variables import refuse_unknown
from schema_migrator.config.validation import validated
from schema_migrator.errors import SettingsError
from schema_migrator.releases.library import Library
from schema_migrator.releases.source import Release, Store

if TYPE_CHECKING:
    from schema_migrator.config.accepted import AcceptedDifference
    from schema_migrator.config.rehearsal_place import RehearsalPlace

_DATABASES = {
    Store.DEFAULT: "temporal",
    Store.VISIBILITY: "temporal_visibility",
    Store.SECONDARY_VISIBILITY: "temporal_secondary_visibility",
}
"""The names in Temporal's documentation, which apply if no setting gives another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """One store: how to connect to it and which version to migrate it to.

    `exposed` is the flag that shows the password to every user of the machine; empty if no flag does.
    """

    store: Store
    database: str
    target_version: str | None
    sql: SqlSettings
    exposed: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """Additional connection parameters: the query string of SQL_CONNECT_ATTRIBUTES as a dictionary."""
        return dict(parse_qsl(self.sql.connect_attributes or "", keep_blank_values=True))

    @property
    def user(self) -> str:
        """The role, for messages; empty if none is set."""
        return self.sql.user or os.environ.get("PGUSER") or ""

    @property
    def address(self) -> str:
        """The address of the database, for messages; it never contains a secret."""
        host = self.sql.host or os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST")
        return self.at(hosts.bracketed(host) if host else "the default host", self.sql.port or os.environ.get("PGPORT"))

    def at(self, host: str, port: str | None) -> str:
        """Return the address with another host and port, such as the one host of several that answered."""
        user = f"{self.user}@" if self.user else ""
        return f"{user}{host}{f':{port}' if port else ''}/{self.database}"

    @property
    def has_direct(self) -> bool:
        """Whether an address past the pooler is set."""
        return self.sql.direct_host is not None or self.sql.direct_port is not None

    def direct(self, database: str) -> StoreSettings:
        """Return the settings that lead past the pooler, with the server's name for the database.

        Without an address past the pooler these are the settings as they are.
        """
        if not self.has_direct:
            return self
        host, port = self.sql.direct_host or self.sql.host, self.sql.direct_port or self.sql.port
        place = {"host": host, "port": port, "direct_host": None, "direct_port": None}
        return replace(self, database=database, sql=self.sql.model_copy(update=place))

    @property
    def renews_password(self) -> bool:
        """Whether every connection reads its password, or gets a token of its own."""
        return self.sql.password is None and any(getattr(self.sql, name) is not None for name in PASSWORDS)

    def password(self) -> str | None:
        """Return the password, or None if none is set. Each call reads the file or runs the command again.

        Raises SettingsError. The token of SQL_AUTH is not here: `identity.tokens` asks the cloud for it.
        """
        if self.sql.password is not None:
            return self.sql.password.get_secret_value()
        try:
            if self.sql.password_file is not None:
                return passwords.from_file(self.sql.password_file, "SQL_PASSWORD_FILE")
            if self.sql.password_command is not None:
                return passwords.from_command(self.sql.password_command, "SQL_PASSWORD_COMMAND")
        except SettingsError as error:
            error.store = self.store
            raise
        return None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a command. `rehearsal_place`: another server for rehearsals, None for the stores' own."""

    run: RunSettings
    stores: tuple[StoreSettings, ...]
    rehearsal_place: RehearsalPlace | None = None

    @cached_property
    def release(self) -> Release:
        """The release whose files the run uses, read once. Raises SourceError."""
        return self.library.configured_release()

    @cached_property
    def library(self) -> Library:
        """Every release that is available."""
        return Library(folders=self.run.sources, configured=self.run.temporal_version)

    @cached_property
    def accepted(self) -> tuple[AcceptedDifference, ...]:
        """The accepted differences of all stores, read once. Raises SettingsError."""
        return accepted.read(self.run.accepted) if self.run.accepted else ()

    def store(self, store: Store) -> StoreSettings:
        """Return one store's settings."""
        return next(settings for settings in self.stores if settings.store is store)


def read(flags: Mapping[str, Any], variables: Mapping[str, str] | None = None, *, on_stores: bool = True) -> Settings:
    """Read flags (by their variables' names) and variables (the environment if None). Raises SettingsError.

    `on_stores`: whether the command works on stores. One that does not may find settings of any store.
    """
    variables = os.environ if variables is None else variables
    given = _set(flags)
    known = frozenset({chart.VARIABLE, *(option.variable for option in all_options())})
    refuse_unknown(_set(variables), known, PREFIX)
    chart.assert_secrets(variables)
    environ = _set(_environment(variables))
    run = _read_run(given, environ)
    checks.check_backup(run)
    if on_stores:
        selection.refuse_unselected(run, given, environ)
    broad = _read_sql("SQL_", given, environ)
    stores = tuple(_read_store(store, run, broad, given, environ) for store in run.stores)
    if broad.database is not None:
        name = "SQL_DATABASE" if "SQL_DATABASE" in {**environ, **given} else "the database of SQL_URI"
        selection.refuse_one_name(run.stores, name, broad.database)
    selection.refuse_shared({store.store: (store.sql.host, store.sql.port, store.database) for store in stores})
    place = rehearsal_place.read(run.rehearse_on, by_flag=rehearsal_place.VARIABLE in given)
    return Settings(run=run, stores=stores, rehearsal_place=place)


def read_client(flags: Mapping[str, Any]) -> ClientSettings:
    """Read the flags and variables of a client of Temporal's frontend. Raises SettingsError."""
    names = {option.variable: option.variable for option in client_options()}
    given, environ = _set(flags), _set(read_environment(ClientSettings, os.environ))
    return validated(ClientSettings, names, _chosen(names, environ) | _chosen(names, given), given)


def demo_environment() -> dict[str, str]:
    """Return the variables that the demo reads. It ignores the rest of a shell set up for a real installation."""
    name = f"{PREFIX}SOURCES"
    return {name: os.environ[name]} if name in os.environ else {}


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    values = read_environment(RunSettings, variables)
    for scope in ("SQL_", *(scope_of(store) for store in Store)):
        values |= read_environment(SqlSettings, variables, scope)
    return values


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are set, stripped, because files and YAML blocks end with a line break.

    The passwords in SQL_PASSWORD variables stay as they are.
    """
    tidy = {
        name: value.strip() if isinstance(value, str) and not name.endswith("SQL_PASSWORD") else value
        for name, value in values.items()
    }
    return {name: value for name, value in tidy.items() if value not in ("", None, [])}


def _read_run(given: Mapping[str, Any], environ: Mapping[str, str]) -> RunSettings:
    names = {option.variable: option.variable for option in run_options()}
    return validated(RunSettings, names, _chosen(names, environ) | _chosen(names, given), given)


def _read_sql(scope: str, given: Mapping[str, Any], environ: Mapping[str, str]) -> SqlSettings:
    names = {scope + name.upper(): name for name in SqlSettings.model_fields}
    flags, variables = _chosen(names, given), _chosen(names, environ)
    if PASSWORDS & flags.keys():
        variables = {name: value for name, value in variables.items() if name not in PASSWORDS}
    values = variables | flags
    _refuse_two_passwords([variable for variable, name in names.items() if name in PASSWORDS & values.keys()])
    sql = validated(SqlSettings, names, uris.spread(values, f"{scope}URI", PASSWORDS), given)
    checks.check_place(sql, scope)
    checks.check_attributes(sql, scope)
    return sql


def _read_store(
    store: Store, run: RunSettings, broad: SqlSettings, given: Mapping[str, Any], environ: Mapping[str, str]
) -> StoreSettings:
    sql = _read_sql(scope_of(store), given, environ).over(broad)
    checks.check_ports(sql, store)
    checks.check_tls(sql, store)
    token_checks.check(sql, store)
    targets = {
        Store.DEFAULT: run.default_target_version,
        Store.VISIBILITY: run.visibility_target_version,
        Store.SECONDARY_VISIBILITY: run.secondary_visibility_target_version,
    }
    return StoreSettings(
        store=store,
        database=sql.database or _DATABASES[store],
        target_version=targets[store],
        sql=sql,
        exposed=_exposed(scope_of(store), given) if sql.password else "",
    )


def _exposed(scope: str, given: Mapping[str, Any]) -> str:
    """Return the flag that gave the password; empty if a variable gave it, or nothing did."""
    names = (f"{place}{name}" for place in (scope, "SQL_") for name in ("PASSWORD", "URI"))
    return next((flag_of(name) for name in names if name in given), "")


def _chosen(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {names[variable]: value for variable, value in values.items() if variable in names}


def _refuse_two_passwords(variables: list[str]) -> None:
    if len(variables) > 1:
        raise SettingsError(f"{' and '.join(variables)} are both set, expected one of them", hint="unset the others")

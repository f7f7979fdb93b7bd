"""Flags and environment variables to one frozen value.

A flag beats a variable, and a store's own name beats the common one. Empty means unset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from schema_migrator.config import chart, checks, hosts, passwords, uris
from schema_migrator.config.client_fields import ClientSettings
from schema_migrator.config.fields import PASSWORDS, PREFIX, RunSettings, SqlSettings
from schema_migrator.config.options import (
    all_options,
    client_options,
    flag_of,
    read_environment,
    run_options,
    scope_of,
)
from schema_migrator.config.unknown_variables import refuse_unknown, service_link
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Release, Store, load_release

# What pydantic finds wrong with a value, by its names of errors, as what we expected instead.
_EXPECTED = {
    "literal_error": "{expected}",
    "enum": "{expected}",
    "too_short": "default, visibility, or both",
    "bool_parsing": "true or false",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "float_parsing": "a number of seconds",
    "finite_number": "a number of seconds",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}
_SHOWN = 100
_M = TypeVar("_M", bound=BaseSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """One store: where it is and which version it is to reach.

    `exposed`: the flag that shows the password to everybody on the machine; empty for none.
    """

    store: Store
    database: str
    target_version: str | None
    sql: SqlSettings
    exposed: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """Extra connection parameters: the query string of SQL_CONNECT_ATTRIBUTES."""
        return dict(parse_qsl(self.sql.connect_attributes or "", keep_blank_values=True))

    @property
    def user(self) -> str:
        """The role, for people."""
        return self.sql.user or os.environ.get("PGUSER") or ""

    @property
    def address(self) -> str:
        """Where the database is, for people; never a secret."""
        host = self.sql.host or os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST")
        return self.at(hosts.bracketed(host) if host else "the default host", self.sql.port or os.environ.get("PGPORT"))

    def at(self, host: str, port: str | None) -> str:
        """Return the address for people with another host and port, such as the one of several that answered."""
        user = f"{self.user}@" if self.user else ""
        return f"{user}{host}{f':{port}' if port else ''}/{self.database}"

    @property
    def has_direct(self) -> bool:
        """Whether there is a way past a pooler."""
        return self.sql.direct_host is not None or self.sql.direct_port is not None

    def direct(self, database: str) -> StoreSettings:
        """Return the same store past a pooler, where the database may bear another name; itself if there is no way."""
        if not self.has_direct:
            return self
        host, port = self.sql.direct_host or self.sql.host, self.sql.direct_port or self.sql.port
        place = {"host": host, "port": port, "direct_host": None, "direct_port": None}
        return replace(self, database=database, sql=self.sql.model_copy(update=place))

    def password(self) -> str | None:
        """Return the password, asked for anew each time. Raises SettingsError."""
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
    """Everything that a command is told."""

    run: RunSettings
    stores: tuple[StoreSettings, ...]

    @cached_property
    def release(self) -> Release:
        """The release whose files are used, read once. Raises SourceError."""
        return load_release(self.run.sources, self.run.temporal_version)

    def store(self, store: Store) -> StoreSettings:
        """Return one store's settings."""
        return next(one for one in self.stores if one.store is store)


def read(flags: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> Settings:
    """Read flags (by their variables' names) and variables, the environment's unless given. Raises SettingsError."""
    variables = os.environ if variables is None else variables
    given = _set(flags)
    known = frozenset({chart.VARIABLE, *(option.variable for option in all_options())})
    refuse_unknown(_set(variables), known, PREFIX)
    chart.assert_secrets(variables)
    environ = _set(_environment(variables))
    run = _read_run(given, environ)
    broad = _read_sql("SQL_", given, environ)
    stores = tuple(_read_store(store, run, broad, given, environ) for store in run.stores)
    if broad.database is not None and len(stores) > 1:
        name = "SQL_DATABASE" if "SQL_DATABASE" in {**environ, **given} else "the database of SQL_URI"
        raise SettingsError(
            f'{name} is "{broad.database}" for both stores, expected a database for each',
            hint="set DEFAULT_SQL_DATABASE and VISIBILITY_SQL_DATABASE, or one store in SCHEMA_MIGRATOR_STORES",
        )
    _refuse_shared_database(stores)
    return Settings(run=run, stores=stores)


def read_client(flags: Mapping[str, Any]) -> ClientSettings:
    """Read the flags and variables that are for a client of Temporal's. Raises SettingsError."""
    names = {option.variable: option.variable for option in client_options()}
    given, environ = _set(flags), _set(read_environment(ClientSettings, os.environ))
    return _validated(ClientSettings, names, _chosen(names, environ) | _chosen(names, given), given)


def demo_environment() -> dict[str, str]:
    """Return the variables that the demo reads: a shell that is set up for a real installation has many more."""
    name = f"{PREFIX}SOURCES"
    return {name: os.environ[name]} if name in os.environ else {}


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    found = read_environment(RunSettings, variables)
    for scope in ("SQL_", *(scope_of(store) for store in Store)):
        found |= read_environment(SqlSettings, variables, scope)
    return found


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is set, without blanks around it: files and YAML blocks end with a line break."""
    tidy = {
        name: value.strip() if isinstance(value, str) and not name.endswith("SQL_PASSWORD") else value
        for name, value in values.items()
    }
    return {name: value for name, value in tidy.items() if value not in ("", None, [])}


def _read_run(given: Mapping[str, Any], environ: Mapping[str, str]) -> RunSettings:
    names = {option.variable: option.variable for option in run_options()}
    return _validated(RunSettings, names, _chosen(names, environ) | _chosen(names, given), given)


def _read_sql(scope: str, given: Mapping[str, Any], environ: Mapping[str, str]) -> SqlSettings:
    names = {scope + name.upper(): name for name in SqlSettings.model_fields}
    flags, variables = _chosen(names, given), _chosen(names, environ)
    if PASSWORDS & flags.keys():
        variables = {name: value for name, value in variables.items() if name not in PASSWORDS}
    values = variables | flags
    _refuse_two_passwords([variable for variable, name in names.items() if name in PASSWORDS & values.keys()])
    found = _validated(SqlSettings, names, uris.spread(values, f"{scope}URI", PASSWORDS), given)
    checks.check_place(found, scope)
    checks.check_attributes(found, scope)
    return found


def _read_store(
    store: Store, run: RunSettings, broad: SqlSettings, given: Mapping[str, Any], environ: Mapping[str, str]
) -> StoreSettings:
    sql = _read_sql(scope_of(store), given, environ).over(broad)
    checks.check_ports(sql, store)
    checks.check_tls(sql, store)
    fallback = "temporal" if store is Store.DEFAULT else "temporal_visibility"
    wanted = run.default_target_version if store is Store.DEFAULT else run.visibility_target_version
    return StoreSettings(
        store=store,
        database=sql.database or fallback,
        target_version=wanted,
        sql=sql,
        exposed=_exposed(scope_of(store), given) if sql.password else "",
    )


def _exposed(scope: str, given: Mapping[str, Any]) -> str:
    """Return the flag that gave the password; empty where a variable did, or nothing."""
    names = (f"{place}{name}" for place in (scope, "SQL_") for name in ("PASSWORD", "URI"))
    return next((flag_of(name) for name in names if name in given), "")


def _chosen(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {names[variable]: value for variable, value in values.items() if variable in names}


def _refuse_two_passwords(variables: list[str]) -> None:
    if len(variables) > 1:
        raise SettingsError(f"{' and '.join(variables)} are both set, expected one of them", hint="unset the others")


def _refuse_shared_database(stores: tuple[StoreSettings, ...]) -> None:
    places = {(one.sql.host, one.sql.port, one.database) for one in stores}
    if len(places) < len(stores):
        raise SettingsError(
            f'both stores are in the database "{stores[0].database}", expected a database for each',
            hint="set DEFAULT_SQL_DATABASE and VISIBILITY_SQL_DATABASE to different databases",
        )


def _validated(kind: type[_M], names: Mapping[str, str], values: dict[str, Any], given: Mapping[str, Any]) -> _M:
    for variable, name in names.items():
        if not _is_text(values.get(name)):
            raise SettingsError(f"{variable} cannot be used, expected UTF-8 text")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    # Outside of the handler: pydantic's own text would show the value of a password.
    field = str(first["loc"][0])
    raise _explain(first, next(variable for variable, name in names.items() if name == field), given)


def _is_text(value: object) -> bool:
    """Whether a value survives being sent; the environment may hold bytes that are no UTF-8."""
    return not isinstance(value, str) or not any("\ud800" <= char <= "\udfff" for char in value)


def _explain(first: Any, variable: str, given: Mapping[str, Any]) -> SettingsError:  # noqa: ANN401 - pydantic's dict
    value = first["input"]
    link = service_link(variable, value)
    if link is not None:
        return link
    name = flag_of(variable) if variable in given else variable
    context = {key: str(text).removesuffix(".0").replace("'", "") for key, text in first.get("ctx", {}).items()}
    expected = _EXPECTED.get(first["type"], first["msg"]).format(**context)
    hidden = re.search("PASSWORD|API_KEY", variable) or not isinstance(value, str) or "://" in value or "@" in value
    shown = value if hidden or len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    found = f"{name} cannot be used" if hidden else f'{name} is "{shown}"'
    return SettingsError(f"{found}, expected {expected}")

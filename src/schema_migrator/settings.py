"""Flags and environment variables to one frozen value.

A flag beats a variable, and a store's own name beats the common one. Empty means unset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from schema_migrator import chart, passwords, uris
from schema_migrator.errors import SettingsError
from schema_migrator.flags import all_options, client_options, flag_of, run_options, scope_of
from schema_migrator.options import PASSWORDS, PREFIX, ClientSettings, RunSettings, SqlSettings, read_environment
from schema_migrator.source import Store
from schema_migrator.variables import refuse_unknown, service_link

_TLS_FILES = ("tls_ca_file", "tls_cert_file", "tls_key_file", "tls_server_name")
# Connect attributes that a setting of its own gives.
_OWN_SETTING = {"host": "HOST", "hostaddr": "HOST", "port": "PORT", "user": "USER"} | {
    "password": "PASSWORD",
    "dbname": "DATABASE",
}
# What pydantic finds wrong with a value, by its names of errors, as what we expected instead.
_EXPECTED = {
    "literal_error": "{expected}",
    "enum": "{expected}",
    "too_short": "one or more of the stores default and visibility",
    "bool_parsing": "true or false",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "float_parsing": "a number of seconds",
    "finite_number": "a number of seconds",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}
_M = TypeVar("_M", bound=BaseSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """One store: where it is and which version it is to reach."""

    store: Store
    database: str
    target_version: str | None
    sql: SqlSettings

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
        user = f"{self.user}@" if self.user else ""
        host = self.sql.host or os.environ.get("PGHOST") or "the default host"
        port = self.sql.port or os.environ.get("PGPORT")
        return f"{user}{host}{f':{port}' if port else ''}/{self.database}"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a command is told."""

    run: RunSettings
    stores: tuple[StoreSettings, ...]

    def store(self, store: Store) -> StoreSettings:
        """Return one store's settings."""
        return next(one for one in self.stores if one.store is store)


def read(flags: Mapping[str, Any]) -> Settings:
    """Read flags (by their variables' names) and the environment. Raises SettingsError."""
    given = _set(flags)
    known = frozenset({chart.VARIABLE, *(option.variable for option in all_options())})
    refuse_unknown(_set(os.environ), known, PREFIX)
    chart.assert_secrets(os.environ)
    environ = _set(_environment())
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
    given, environ = _set(flags), _set(read_environment(ClientSettings))
    return _validated(ClientSettings, names, _chosen(names, environ) | _chosen(names, given), given)


def _environment() -> dict[str, str]:
    scopes = ("SQL_", *(scope_of(store) for store in Store))
    found = read_environment(RunSettings)
    for scope in scopes:
        found |= read_environment(SqlSettings, scope)
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
    _check_place(found, scope)
    _check_attributes(found, scope)
    return found


def _read_store(
    store: Store, run: RunSettings, broad: SqlSettings, given: Mapping[str, Any], environ: Mapping[str, str]
) -> StoreSettings:
    sql = _read_sql(scope_of(store), given, environ).over(broad)
    _check_tls(sql, store)
    fallback = "temporal" if store is Store.DEFAULT else "temporal_visibility"
    wanted = run.default_target_version if store is Store.DEFAULT else run.visibility_target_version
    return StoreSettings(store=store, database=sql.database or fallback, target_version=wanted, sql=sql)


def _chosen(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {names[variable]: value for variable, value in values.items() if variable in names}


def _refuse_two_passwords(variables: list[str]) -> None:
    if len(variables) > 1:
        raise SettingsError(f"{' and '.join(variables)} are both set, expected one of them", hint="unset the others")


def _check_place(sql: SqlSettings, scope: str) -> None:
    hosts = {"HOST": sql.host, "DIRECT_HOST": sql.direct_host}
    for name, value in (hosts | {"USER": sql.user, "DATABASE": sql.database}).items():
        if value and "://" in value:  # it may hold a password, so it is not shown
            raise SettingsError(
                f"{scope}{name} is a URL, expected a name",
                hint=f"set {scope}HOST, {scope}PORT, {scope}USER, {scope}PASSWORD and {scope}DATABASE one by one",
            )
        if value and name in hosts and re.fullmatch(r"[^:/,]+:\d+", value):
            raise SettingsError(
                f'{scope}{name} is "{value}", expected a name or address alone',
                hint=f"set the port in {scope}{name.replace('HOST', 'PORT')}",
            )


def _check_attributes(sql: SqlSettings, scope: str) -> None:
    """Refuse connect attributes that are no query string or say again what a setting says."""
    name = f"{scope}CONNECT_ATTRIBUTES"
    if sql.connect_attributes is None:
        return
    try:
        pairs = parse_qsl(sql.connect_attributes, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise SettingsError(f"{name} is no query string", hint="expected name=value pairs joined by &") from None
    names = [key for key, _ in pairs]
    doubled = next((key for key in names if names.count(key) > 1), None)
    if doubled:
        raise SettingsError(f'{name} gives "{doubled}" twice', hint="give it once")
    owned = next((key for key in names if key in _OWN_SETTING), None)
    if owned:
        raise SettingsError(
            f'{name} gives "{owned}", which has a setting of its own', hint=f"set {scope}{_OWN_SETTING[owned]}"
        )


def _check_tls(sql: SqlSettings, store: Store) -> None:
    given = [f"SQL_{name.upper()}" for name in _TLS_FILES if getattr(sql, name) is not None]
    if given and sql.tls is None:
        raise SettingsError(
            f"{given[0]} is set, but SQL_TLS is not",
            hint="set SQL_TLS=true to use it, or SQL_TLS=false to do without TLS",
            store=store,
        )
    if (sql.tls_cert_file is None) != (sql.tls_key_file is None):
        raise SettingsError(
            "only one of SQL_TLS_CERT_FILE and SQL_TLS_KEY_FILE is set, expected both or none",
            hint="set the other one too",
            store=store,
        )
    attribute = next((key for key in _attribute_names(sql) if key.startswith("ssl")), None)
    if attribute and sql.tls is not None:
        raise SettingsError(
            f'SQL_CONNECT_ATTRIBUTES gives "{attribute}" beside SQL_TLS, expected only one to decide about TLS',
            hint="unset one of them",
            store=store,
        )


def _attribute_names(sql: SqlSettings) -> list[str]:
    return [key for key, _ in parse_qsl(sql.connect_attributes or "", keep_blank_values=True)]


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
    hidden = re.search("PASSWORD|API_KEY", variable) or not isinstance(value, str) or "://" in value
    found = f"{name} cannot be used" if hidden else f'{name} is "{value}"'
    return SettingsError(f"{found}, expected {expected}")

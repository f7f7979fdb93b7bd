"""The options as help and documents show them: variable, flag, default and meaning of each.

The variable `SCHEMA_MIGRATOR_X_Y` has the flag `--x-y`, and the vendor's variable `SQL_X` has `--sql-x`. For one store
alone, `SQL_X` is also available with the prefix `DEFAULT_`, `VISIBILITY_` or `SECONDARY_VISIBILITY_`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from schema_migrator.config import option_commands
from schema_migrator.config.client_fields import ClientSettings
from schema_migrator.config.fields import PREFIX, RunSettings
from schema_migrator.config.sql_fields import SqlSettings
from schema_migrator.releases.source import Store

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_settings import BaseSettings


REPEATED = {"STORES": "--store", "IGNORE_REPLICAS": "--ignore-replica"}
"""The flags that can be repeated and therefore have a singular name, by the variable's name without prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A flag and its variable, as people see them, and the commands that read it."""

    variable: str
    flag: str
    field: FieldInfo
    commands: frozenset[str]

    @property
    def meaning(self) -> str:
        """The description, followed by the allowed values if the option has a fixed set of them."""
        kinds = (self.field.annotation, *get_args(self.field.annotation))
        choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
        choices = () if int in kinds else choices
        return f"{self.field.description} ({', '.join(choices)})" if choices else str(self.field.description)

    @property
    def default(self) -> str:
        """The value that applies if the option is not set, as text; empty if there is none."""
        value = self.field.default
        if isinstance(value, tuple):
            return ",".join(map(str, value))
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def run_options() -> tuple[Option, ...]:
    """Return every option of RunSettings."""
    return _named(RunSettings, option_commands.of_run)


def sql_options(prefix: str = "SQL_") -> tuple[Option, ...]:
    """Return every option of SqlSettings under a prefix: SQL_, or that of a store."""
    return tuple(
        _option(prefix + name.upper(), field, option_commands.of_connection(name))
        for name, field in SqlSettings.model_fields.items()
    )


def client_options() -> tuple[Option, ...]:
    """Return every option of ClientSettings."""
    return _named(ClientSettings, option_commands.of_client)


def _named(kind: type[BaseSettings], read_by: Callable[[str], frozenset[str]]) -> tuple[Option, ...]:
    named = ((str(field.validation_alias), field) for field in kind.model_fields.values())
    return tuple(_option(name, field, read_by(name)) for name, field in named)


def _option(variable: str, field: FieldInfo, commands: frozenset[str]) -> Option:
    return Option(variable=variable, flag=flag_of(variable), field=field, commands=commands)


def all_options() -> tuple[Option, ...]:
    """Return every option, with the connection settings under every prefix."""
    scopes = ("SQL_", *(scope_of(store) for store in Store))
    return (*run_options(), *client_options(), *(option for scope in scopes for option in sql_options(scope)))


def scope_of(store: Store) -> str:
    """Return the prefix of a store's own connection settings."""
    return f"{store.prefix}_SQL_"


def flag_of(variable: str) -> str:
    """Return the flag that corresponds to a variable."""
    name = variable.removeprefix(PREFIX)
    return REPEATED.get(name, "--" + name.lower().replace("_", "-"))


def read_environment(kind: type[BaseSettings], environ: Mapping[str, str], prefix: str = "") -> dict[str, str]:
    """Return the values that an environment sets for the options of `kind`, by variable. Empty means unset."""
    names = [str(field.validation_alias or prefix + name.upper()) for name, field in kind.model_fields.items()]
    return {name: environ[name] for name in names if environ.get(name)}

"""The chart's values for the program's settings: their defaults, comments, schema, and the variables that they become.

`make docs` writes them wherever a setting's value has the setting's own name (`schema_migrator.config.chart`). A new
setting gets its value by that. What needs a Secret, or has a value of another kind, is placed by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from schema_migrator.config import chart
from schema_migrator.config.options import Option, client_options, flag_of, run_options, sql_options

SIZE = r"[0-9]{1,15}(\.[0-9]{1,6})? ?([kKmMgGtT]?[bB])?"
PORT = r"[0-9]{1,5}(,[0-9]{1,5})*"
BY_VALIDATOR: Mapping[str, Mapping[str, Any]] = {
    "labels": {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}},
    "split_names": {"type": "array", "items": {"type": "string", "minLength": 1}},
    # Without quotes, YAML takes off for false.
    "_limit": {
        "type": ["string", "integer", "boolean"],
        "pattern": f"^(off|{SIZE})?$",
        "minimum": 1,
        "not": {"const": True},
    },
    "duration": {"type": "string", "pattern": "^([0-9]{1,7}d)?([0-9]{1,7}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?$"},
    "ports": {"type": ["string", "integer"], "pattern": f"^({PORT})?$", "minimum": 1, "maximum": 65535},
}
"""The schema of values whose texts the program turns into something else, by the function that does it."""
EMPTY: Mapping[str, Any] = {"object": {}, "array": [], "string": ""}
"""The value that leaves a setting unset, by its type; null for other types."""
MEANINGS = {
    "executor": "`native`, or `sql-tool` for the vendor's binary, which only the image with the tag `-tools` has",
    "sqlTool": "the vendor's temporal-sql-tool; empty: that of the image with the tag `-tools`",
    "noVerify": "do not verify the result by a rehearsal, which needs CREATE on the database; after an installation,"
    " the schema is read back instead",
    "onDrift": "what to do about manual changes of the schema: `warn`, or `fail` before anything is touched",
    "ignoreReplicas": "replicas and slots to ignore, by application_name or slot",
    "metricsFile": "file for the migration's metrics in Prometheus' text format, in a volume of `extraVolumes`; the"
    " CronJob of `driftCheck` has one of its own",
    "metricsLabels": "labels of all metrics; without any, the CronJob's have `namespace` and `installation`",
    "terminationLog": "file for the final message, which is also the containers' `terminationMessagePath`",
    "passwordFile": "file with the password, instead of the Secret, for example in a volume of a CSI driver",
    "namespacesFile": "file with a JSON list of namespaces, instead of `namespaceBootstrap.namespaces`",
    "directHost": "server's address behind a transaction pooler, for CREATE INDEX CONCURRENTLY and online rewrites",
    "connectAttributes": "additional connection parameters, as a query string: `search_path=temporal`",
    "plugin": "the vendor's name for the kind of database; the program needs none",
}
"""What is said of a value in the chart, where the option's own words are about a command line."""


class ByHandError(Exception):
    """A setting needs a value that is placed by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value of the chart: its name in its section, the variable that it becomes, and its default as YAML has it."""

    name: str
    variable: str
    default: Any
    meaning: str
    schema: Mapping[str, Any]


@cache
def settings() -> tuple[Value, ...]:
    """Return the values in `settings`."""
    return tuple(in_section("settings", run_options()))


@cache
def connection() -> tuple[Value, ...]:
    """Return the values in `connection` that are not placed by hand, with the variables' names without a scope."""
    by_hand = {"SQL_HOST", "SQL_PORT", "SQL_USER", "SQL_PASSWORD_COMMAND", "SQL_AUTH"}
    return tuple(in_section("connection", (one for one in sql_options() if one.variable not in by_hand), "SQL_"))


@cache
def bootstrap() -> tuple[Value, ...]:
    """Return the values in `namespaceBootstrap` that are not placed by hand."""
    by_hand = {"TEMPORAL_ADDRESS", "SCHEMA_MIGRATOR_NAMESPACES"}
    return tuple(in_section("namespaceBootstrap", (one for one in client_options() if one.variable not in by_hand)))


def in_section(section: str, options: Iterator[Option] | tuple[Option, ...], scope: str = "") -> Iterator[Value]:
    """Yield the values of options that have a section's value of their own name."""
    names = chart.values()
    for option in options:
        own = chart.camel(option.variable.removeprefix(scope).removeprefix("TEMPORAL_"))
        if names[option.variable] == f"{section}.{own}":
            yield value_of(own, option, scope)


def value_of(name: str, option: Option, scope: str) -> Value:
    """Return the value of an option. Raises ByHandError for a secret."""
    if SecretStr in (option.field.annotation, *get_args(option.field.annotation)):
        raise ByHandError(f"{option.variable} is a secret: let it come from a Secret, and name that value in chart.py")
    schema = schema_of(option.field)
    meaning = in_the_chart(MEANINGS.get(name, option.meaning))
    default = default_of(option.field, schema)
    variable = option.variable.removeprefix(scope)
    return Value(name=name, variable=variable, default=default, meaning=meaning, schema=schema)


def schema_of(field: FieldInfo) -> dict[str, Any]:
    """Return the JSON schema of an option's value; an optional number may be null, an optional text empty."""
    validators = [found.func for found in field.metadata if isinstance(found, BeforeValidator)]
    for function in validators:
        bare = function.func if isinstance(function, partial) else function
        if bare.__name__ == "size":
            return {"type": ["string", "integer"], "pattern": f"^({function.keywords['word']}|{SIZE})?$", "minimum": 1}
        if bare.__name__ in BY_VALIDATOR:
            return dict(BY_VALIDATOR[bare.__name__])
    kinds = [field.annotation, *get_args(field.annotation)]
    choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), None)
    optional = NoneType in kinds
    if choices:
        return {"enum": [*([""] if optional else []), *choices]}
    named = next((name for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number")) if kind in kinds), "")
    if not named:
        return {"type": "string"}
    return {"type": [named, "null"] if optional else named, **bounds(field)}


def bounds(field: FieldInfo) -> dict[str, Any]:
    """Return the limits of a number."""
    least = [("minimum", found.ge) for found in field.metadata if isinstance(found, annotated_types.Ge)]
    most = [("maximum", found.le) for found in field.metadata if isinstance(found, annotated_types.Le)]
    return dict([*least, *most])


def default_of(field: FieldInfo, schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - YAML
    """Return an option's default as YAML has it."""
    kinds = schema.get("type", "string")
    if field.default in (None, ()):
        return EMPTY.get(kinds if isinstance(kinds, str) else kinds[0])
    return str(field.default) if isinstance(field.default, Path) else field.default


def in_the_chart(meaning: str) -> str:
    """Return an option's meaning as a sentence that names the chart's values in place of flags and variables."""
    names = {name: value for name, value in chart.values().items() if " and " not in value}
    for variable, value in sorted(names.items(), key=lambda item: -len(item[0])):
        for name in (flag_of(variable), variable):
            meaning = re.sub(rf"(?<![\w`-]){re.escape(name)}(?![\w-])", f"`{value}`", meaning)
    first = meaning if meaning.startswith("`") else meaning[0].upper() + meaning[1:]
    return f"{first}."


def values_yaml(text: str) -> str:
    """Return values.yaml with the generated values of each section."""
    for section, those in (("settings", settings()), ("connection", connection()), ("namespaceBootstrap", bootstrap())):
        lines = "".join(f"  # -- {value.meaning}\n  {value.name}: {scalar(value.default)}\n" for value in those)
        text = between(text, f"  # {section}: `make docs` writes these\n", f"  # {section}: up to here\n", lines)
    return text


def scalar(value: Any) -> str:  # noqa: ANN401 - YAML
    """Return a value as YAML, a text without quotes if it is a word."""
    plain = (
        isinstance(value, str) and re.fullmatch(r"[a-z/][a-z/-]*", value) and value not in ("on", "off", "yes", "no")
    )
    return value if plain else json.dumps(value)


def between(text: str, first: str, last: str, content: str) -> str:
    """Return a text with other content between two lines. Raises ValueError unless each is there once."""
    before, _, rest = text.partition(first)
    _, found, after = rest.partition(last)
    if not found or first in rest or last in after:
        raise ValueError(f'values.yaml has no single place "{first.strip()}"')
    return before + first + content + last + after


def schema_json(text: str) -> str:
    """Return values.schema.json with the schemas of the generated values; those that are no values any more go."""
    whole = json.loads(text)
    properties = whole["properties"]
    properties["settings"] = {"type": "object", "additionalProperties": False, "properties": schemas(settings())}
    stores = properties["databases"]["properties"].values()
    for place in (properties["connection"], *(store["properties"]["connection"] for store in stores)):
        place["properties"] = by_hand(place, connection()) | schemas(connection())
    place = properties["namespaceBootstrap"]
    place["properties"] = by_hand(place, bootstrap()) | schemas(bootstrap())
    return json.dumps(whole, indent=2) + "\n"


def by_hand(place: Mapping[str, Any], those: tuple[Value, ...]) -> dict[str, Any]:
    """Return the properties of an object that are not generated: those before the first generated one."""
    names = {value.name for value in those}
    found: dict[str, Any] = {}
    for name, schema in place["properties"].items():
        if name in names:
            break
        found[name] = schema
    return found


def schemas(those: tuple[Value, ...]) -> dict[str, Any]:
    """Return the schemas of values by name."""
    return {value.name: dict(value.schema) for value in those}


def template(_text: str) -> str:
    """Return the helpers that list, for each section, the values with their variables, and their defaults as text."""
    parts = ("settings", settings()), ("connectionSettings", connection()), ("bootstrapSettings", bootstrap())
    return "{{- /* `make docs` writes this file from the program's options. */}}\n" + "".join(
        f'{{{{- define "temporal-migrations.{name}" -}}}}\n[\n{rows(those)}\n]\n{{{{- end }}}}\n'
        for name, those in parts
    )


def rows(those: tuple[Value, ...]) -> str:
    """Return values as the elements of a JSON list."""
    return ",\n".join("  " + json.dumps(row(value)) for value in those)


def row(value: Value) -> dict[str, str]:
    """Return a value as the template needs it; `false`: the text for false, if that is not `false`."""
    named = {"value": value.name, "variable": value.variable, "default": text_of(value.default)}
    return {**named, "false": "off"} if "not" in value.schema else named


def text_of(default: Any) -> str:  # noqa: ANN401 - YAML
    """Return a default as the text of a variable, as the template makes it of a value."""
    if default in (None, [], {}):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


WRITERS: Mapping[str, Callable[[str], str]] = {
    "charts/temporal-migrations/values.yaml": values_yaml,
    "charts/temporal-migrations/values.schema.json": schema_json,
    "charts/temporal-migrations/templates/_options.tpl": template,
}
"""What makes a file's new text of its old one, in the order in which they have to be written."""

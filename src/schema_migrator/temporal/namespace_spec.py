"""Reads the namespaces to create, given as names or as a JSON list, into frozen values."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from schema_migrator.config import durations
from schema_migrator.config.fields import PREFIX
from schema_migrator.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from schema_migrator.config.client_fields import ClientSettings

_VARIABLE, _FILE = f"{PREFIX}NAMESPACES", f"{PREFIX}NAMESPACES_FILE"
SYSTEM = "temporal-system"
"""The name of Temporal's own namespace, which nothing here creates or changes."""
_A_DURATION = f"a duration such as 72h or 3d, at most {durations.LONGEST.days}d"
_SHOWN = 200
_LONGEST_NAME = 1000  # bytes; the server's default for limit.maxIDLength


def _retention(value: object) -> object:
    with suppress(ValueError):
        if isinstance(value, str):
            return durations.parse(value)
    raise ValueError(_A_DURATION)


def _name(value: object) -> object:
    if not isinstance(value, str) or not value or value != value.strip() or not value.isprintable():
        raise ValueError("a name without surrounding spaces")
    if len(value.encode(errors="replace")) > _LONGEST_NAME:
        raise ValueError(f"at most {_LONGEST_NAME} bytes")
    if value == SYSTEM:
        raise ValueError("a namespace that is not Temporal's own")
    return value


def _attribute(value: object) -> object:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or "`" in value:
        raise ValueError("a name of printable letters, none of them a backquote")  # a query could not name it
    return value


_Attribute = Annotated[str, BeforeValidator(_attribute)]
_Type = Literal["Text", "Keyword", "Int", "Double", "Bool", "Datetime", "KeywordList"]


class NamespaceSpec(BaseModel):
    """The specification of a namespace. A field that is None stays as it is, or gets the server's default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, BeforeValidator(_name)]
    description: str | None = None
    owner: str | None = None
    retention: Annotated[timedelta | None, BeforeValidator(_retention)] = None
    data: dict[str, str] = Field(default_factory=dict)
    search_attributes: dict[_Attribute, _Type] = Field(default_factory=dict, validation_alias="searchAttributes")


_LIST = TypeAdapter(list[NamespaceSpec])
_EXPECTED = {
    "missing": "a value",
    "extra_forbidden": "name, description, owner, retention, data or searchAttributes",
    "string_type": "a text",
    "dict_type": "an object of texts",
    "list_type": "a list of objects",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "json_invalid": "names separated by commas, or a JSON list of objects",
    "literal_error": "{expected}",
    "value_error": "{error}",
}


def read_specs(settings: ClientSettings) -> tuple[NamespaceSpec, ...]:
    """Return the specified namespaces in the order given; empty if there are none. Raises SettingsError."""
    if settings.namespaces is not None and settings.namespaces_file is not None:
        raise SettingsError(f"{_VARIABLE} and {_FILE} are both set, expected one of them", hint="unset the other")
    if settings.namespaces_file is not None:
        return _parsed(_text(settings.namespaces_file), f'{_FILE} "{settings.namespaces_file}"')
    text = settings.namespaces or ""
    if text.startswith(("[", "{", '"')):
        return _parsed(text, _VARIABLE)
    names = [{"name": name.strip()} for name in text.split(",")] if text else []
    return _checked(names, _VARIABLE)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f'{_FILE}: "{path}" cannot be read ({error.strerror})') from error
    except UnicodeDecodeError as error:
        raise SettingsError(f'{_FILE}: "{path}" is not UTF-8 text') from error


def _parsed(text: str, place: str) -> tuple[NamespaceSpec, ...]:
    try:
        found = TypeAdapter(Any).validate_json(text)
    except ValidationError as error:
        raise SettingsError(f"{place} is not valid JSON: {error.errors()[0]['ctx']['error']}") from None
    return _checked(found, place)


def _checked(found: object, place: str) -> tuple[NamespaceSpec, ...]:
    try:
        specs = tuple(_LIST.validate_python(found))
    except ValidationError as error:
        raise _explain(error.errors()[0], place) from None
    names = [spec.name for spec in specs]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise SettingsError(f'{place} has the namespace "{doubled}" twice', hint="set it once")
    return specs


def _explain(first: Any, place: str) -> SettingsError:  # noqa: ANN401 - pydantic's dict
    number, *below = first["loc"] or ("",)
    field = _shown(".".join(map(str, below)))
    what = f"{place}: number {int(number) + 1}" if number != "" else place
    context = {key: str(text) for key, text in first.get("ctx", {}).items()}
    expected = _EXPECTED.get(first["type"], first["msg"]).format(**context)
    value = first["input"]
    shown = f' is "{_shown(value)}"' if isinstance(value, str | int | float) and field else ""
    if first["type"] == "missing":
        return SettingsError(f"{what} has no {field}", hint=f"set its {field}")
    if first["type"] == "extra_forbidden":
        return SettingsError(f"{what} has {field}, which is unknown, expected {expected}")
    return SettingsError(f"{what}{f', {field}' if field else ''}{shown}, expected {expected}")


def _shown(value: str | float) -> str:
    """Return a value as one line without quotes, cut to 200 characters."""
    text = json.dumps(str(value), ensure_ascii=False)[1:-1]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

"""Turns values into settings. What pydantic refuses becomes one sentence, without the value of a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from schema_migrator.config.options import flag_of
from schema_migrator.config.unknown_variables import service_link
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

_M = TypeVar("_M", bound=BaseSettings)
# The expected value for each type of error that pydantic reports, by pydantic's name of the error.
_EXPECTED = {
    "literal_error": "{expected}",
    "enum": "{expected}",
    "too_short": f"one or more of {', '.join(Store)}",
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


def validated(kind: type[_M], names: Mapping[str, str], values: dict[str, Any], given: Mapping[str, Any]) -> _M:
    """Return settings of a kind with these values, by field. Raises SettingsError, which names a variable or its flag.

    `names`: the fields by their variables. `given`: the flags, by their variables.
    """
    for variable, name in names.items():
        if not _is_text(values.get(name)):
            raise SettingsError(f"{variable} cannot be used, expected UTF-8 text")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    # Raised outside of the handler: pydantic's error, as its context, would show the value of a password.
    field = str(first["loc"][0])
    raise _explain(first, next(variable for variable, name in names.items() if name == field), given)


def _is_text(value: object) -> bool:
    """Whether a value can be encoded as UTF-8; variables may contain bytes that are not."""
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

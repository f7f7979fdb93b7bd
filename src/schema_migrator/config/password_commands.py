"""The command that prints a password: a command line, or an object as in the server's configuration.

The server's form has `command`, `args` and `timeout` (common/config, PasswordCommandConfig, since 1.31). Its arguments
may be secrets, so no error shows one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schema_migrator.config import programs
from schema_migrator.errors import SettingsError

SECONDS = 30.0
"""The time limit in seconds if the setting gives none, as the server has it."""
_MOST_SECONDS = 86_400
_FIELDS = ("command", "args", "timeout")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordCommand:
    """A program with its arguments, and the time limit in seconds."""

    words: tuple[str, ...]
    seconds: float


def parse(text: str, name: str) -> PasswordCommand:
    """Return the command that a text describes. Raises SettingsError, which names the setting `name`."""
    if text.lstrip().startswith("{"):
        return _of_object(_loaded(text, name), name)
    return PasswordCommand(words=programs.split(text, name), seconds=SECONDS)


def _loaded(text: str, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(f"{name} begins like an object, but is not JSON", name) from None
    if unknown := [field for field in found if field not in _FIELDS]:
        raise _wrong(f'{name} has "{unknown[0]}", expected command, args and timeout', name)
    return dict(found)


def _of_object(found: Mapping[str, Any], name: str) -> PasswordCommand:
    command, args = found.get("command"), found.get("args") or []
    if not isinstance(command, str) or not command:
        raise _wrong(f"{name} has no command, expected the name of a program", name)
    if not isinstance(args, list) or not all(isinstance(word, str) for word in args):
        raise _wrong(f"args in {name} cannot be used, expected a list of texts", name)
    words = (command, *args)
    if any("\0" in word for word in words):
        raise _wrong(f"{name} has a zero byte", name)
    if any("\ud800" <= letter <= "\udfff" for word in words for letter in word):
        raise _wrong(f"{name} has half of a surrogate pair, expected UTF-8 text", name)
    return PasswordCommand(words=words, seconds=_seconds(found.get("timeout"), name))


def _seconds(value: object, name: str) -> float:
    """Return a duration in Go's notation, such as 1m30s, in seconds; none and zero are the usual limit."""
    text = "0s" if value in (None, "", "0", 0) else value
    if isinstance(text, str) and re.fullmatch(rf"(?:{_PART.pattern})+", text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        if seconds <= _MOST_SECONDS:
            return seconds or SECONDS
    raise _wrong(f"timeout in {name} cannot be used, expected a duration such as 30s, at most 24h", name)


def _wrong(found: str, name: str) -> SettingsError:
    return SettingsError(found, hint=f"correct {name}")

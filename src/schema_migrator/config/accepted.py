"""Reads and writes the file of accepted differences: TOML with one table `[[accepted]]` per difference."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "SCHEMA_MIGRATOR_ACCEPTED"
HEAD = """\
# Differences from Temporal's schemas that verify, plan and migrate accept. An entry needs a reason; until is the last
# day, in UTC, on which it applies. A definition is the one that was found: a further change is a difference again.
# A step that would undo one is refused, unless its entry has keep = false.
"""
_EXAMPLE = "index executions_visibility.by_status"
_OBJECT = re.compile(r"[a-z]+ .+", re.DOTALL)
_FIELDS = ("store", "object", "accept", "definition", "reason", "until", "keep")
_SHOWN = 200


class Accept(StrEnum):
    """What is accepted of an object, in the words of verify."""

    MISSING = "missing"
    DIFFERENT = "different"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedDifference:
    """A difference of one object that somebody has accepted, and the reason.

    `object` is the object's name as verify prints it. `definition` is the accepted one; None for a missing object, and
    for an extra one that may have any. `until` is the last day in UTC on which the entry applies; None: no limit.
    `keep`: a step that would undo the difference is refused; otherwise it is only named.
    """

    store: Store
    object: str
    accept: Accept
    reason: str
    definition: str | None = None
    until: date | None = None
    keep: bool = True

    def expired(self, today: date) -> bool:
        """Whether the last day of the entry is over."""
        return self.until is not None and self.until < today


def read(path: Path) -> tuple[AcceptedDifference, ...]:
    """Return the entries of a file in their order. Raises SettingsError, which names the entry that is wrong."""
    place = f'{VARIABLE} "{path}"'
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{place} cannot be read ({error.strerror})", hint=f"correct {VARIABLE}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{place} is not UTF-8 text", hint=f"correct {VARIABLE}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{place} is not valid TOML: {error}", hint="correct the file") from error
    except (ValueError, RecursionError):  # a number or a nesting that is longer than Python reads
        raise _none(place) from None
    tables = found.pop("accepted", [])
    if found or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _none(place)
    entries = tuple(_entry(table, f"{place}: entry {number}") for number, table in enumerate(tables, 1))
    _refuse_twice(entries, place)
    return entries


def written(entries: Iterable[AcceptedDifference]) -> str:
    """Return the text of the file, which `read` returns as the same entries."""
    return "\n".join([HEAD, *map(_table, entries)])


def _none(place: str) -> SettingsError:
    return _wrong(f"{place} has more than tables [[accepted]]")


def _entry(table: Mapping[str, Any], place: str) -> AcceptedDifference:
    unknown = next((name for name in table if name not in _FIELDS), None)
    if unknown is not None:
        raise _wrong(f"{place} has {_shown(unknown)}, which is unknown, expected {', '.join(_FIELDS)}")
    accept = _one_of(table, "accept", tuple(Accept), place)
    entry = AcceptedDifference(
        store=Store(_one_of(table, "store", tuple(Store), place)),
        object=_text(table, "object", place),
        accept=Accept(accept),
        reason=_text(table, "reason", place),
        definition=_text(table, "definition", place) if "definition" in table else None,
        until=_day(table["until"], place) if "until" in table else None,
        keep=_flag(table.get("keep", True), place),
    )
    if not _OBJECT.fullmatch(entry.object):
        raise _wrong(f'{place}: object is "{_shown(entry.object)}", expected kind and name, such as {_EXAMPLE}')
    if entry.accept is Accept.DIFFERENT and entry.definition is None:
        raise _wrong(f"{place}: {_shown(entry.object)} has no definition, which {entry.accept} needs")
    if entry.accept is Accept.MISSING and entry.definition is not None:
        raise _wrong(f"{place}: {_shown(entry.object)} has a definition, which {entry.accept} cannot have")
    return entry


def _one_of(table: Mapping[str, Any], name: str, expected: Sequence[str], place: str) -> str:
    value = _text(table, name, place)
    if value not in expected:
        raise _wrong(f'{place}: {name} is "{_shown(value)}", expected {", ".join(expected)}')
    return value


def _text(table: Mapping[str, Any], name: str, place: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{place} has no {name}", hint=f"set its {name} to a text")
    return value


def _day(value: object, place: str) -> date:
    """Return a day, which is a date of TOML or its text."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass  # such as 2027-02-30
    raise _wrong(f'{place}: until is "{_shown(str(value))}", expected a date such as 2027-01-31')


def _flag(value: object, place: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(f'{place}: keep is "{_shown(str(value))}", expected true or false')


def _refuse_twice(entries: Sequence[AcceptedDifference], place: str) -> None:
    names = [(entry.store, entry.object) for entry in entries]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise SettingsError(
            f"{place} has two entries for the {_shown(doubled[1])} of the {doubled[0]} store", hint="remove one of them"
        )


def _wrong(message: str) -> SettingsError:
    return SettingsError(message, hint="correct the file")


def _shown(text: str) -> str:
    """Return a text as one line, cut to 200 characters."""
    line = json.dumps(text, ensure_ascii=False)[1:-1]
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _table(entry: AcceptedDifference) -> str:
    lines = [
        "[[accepted]]",
        f"store = {_quoted(entry.store)}",
        f"object = {_quoted(entry.object)}",
        f"accept = {_quoted(entry.accept)}",
        *([f"definition = {_quoted(entry.definition)}"] if entry.definition is not None else []),
        f"reason = {_quoted(entry.reason)}",
        *([f"until = {entry.until}"] if entry.until else []),
        *([] if entry.keep else ["keep = false"]),
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a text as a basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

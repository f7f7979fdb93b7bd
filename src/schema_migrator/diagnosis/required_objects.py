"""Finds missing objects that Temporal needs: tables, columns, and the keys that its upserts name. Pure functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from schema_migrator.diagnosis.prediction import REPAIR, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.version import Version

    from schema_migrator.catalog.snapshot import Key, Snapshot
    from schema_migrator.diagnosis.prediction import Predicted
    from schema_migrator.diagnosis.rehearsal import Rehearsal

_KEY = re.compile(r"(?P<kind>PRIMARY KEY|UNIQUE) \((?P<columns>.*?)\)(?P<rest>.*)", re.DOTALL)


def problems(rehearsal: Rehearsal, live: Snapshot, steps: Sequence[Predicted], reached: Version) -> tuple[Problem, ...]:
    """Return what would make a step fail halfway; if nothing would, what Temporal will lack after all steps."""
    stopping = [problem for step in steps for problem in step.problems]
    expected = rehearsal.after.get(reached)
    return tuple(stopping) or (lacking(expected, steps[-1].end if steps else live) if expected else ())


def lacking(expected: Snapshot, reached: Snapshot) -> tuple[Problem, ...]:
    """Return a problem for each table, column, primary key and unique constraint that Temporal needs and will lack.

    `expected` is the version's schema, and `reached` the live schema after the steps.
    """
    found = ((key, expected.objects[key]) for key in sorted(lost(expected, reached)))
    return tuple(Problem(found=_lack(key, text, reached), remedy=REPAIR) for key, text in found)


def lost(expected: Snapshot, reached: Snapshot) -> frozenset[Key]:
    """Return the tables, columns and keys that Temporal needs and that a schema lacks; a table stands for its parts."""
    tables = expected.tables - reached.tables
    return frozenset(
        key
        for key, text in expected.objects.items()
        if key.parent not in tables and _vital(key, text) and not _there(key, text, reached)
    )


def _vital(key: Key, text: str) -> bool:
    return key.kind in ("table", "column") or (key.kind == "constraint" and _KEY.match(text) is not None)


def _there(key: Key, text: str, reached: Snapshot) -> bool:
    """Whether an object exists. A key counts under any name, and with its columns in any order."""
    if key.kind != "constraint":
        return key in reached.objects
    keys = (item for item in reached.objects.items() if (item[0].kind, item[0].parent) == (key.kind, key.parent))
    return any(_unique(definition) == _unique(text) for _, definition in keys)


def _unique(text: str) -> tuple[str, frozenset[str], str] | None:
    found = _KEY.match(text)
    return (found["kind"], frozenset(found["columns"].split(", ")), found["rest"]) if found else None


def _lack(key: Key, text: str, reached: Snapshot) -> str:
    found = reached.objects.get(key)
    if found is not None:
        return f"the {key} is {found}, expected {text}, and Temporal cannot work without it"
    return f"the {key} is missing{f', {text},' if key.kind == 'constraint' else ''} and Temporal cannot work without it"

"""Which pending steps can be one online change of a table, and what that table becomes. Pure functions.

They can where all that they change are columns, indexes and checks of one table, and where a column that
stays is the same column at the end: then a copy of its rows into the end's structure is all there is to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from schema_migrator.catalog import snapshot
from schema_migrator.catalog.snapshot import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.releases.source import Step

Named = tuple[str, str]
"""An object's name and its definition, as a snapshot has it."""

_KINDS = frozenset({"column", "order", "index", "constraint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteSpan:
    """Consecutive steps that change one table and write it anew `rewrites` times.

    `done` statements of the first one were run before.
    """

    table: str
    steps: tuple[Step, ...]
    done: int
    rewrites: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetShape:
    """What a table becomes: from what is there, the `gone` columns left out, the `added` ones put behind.

    `indexes` and `checks` are all that it has at the end, the primary key aside. `touched` are the objects that
    the steps change, `start` and `end` the snapshots of them before and after.
    """

    table: str
    gone: tuple[str, ...]
    added: tuple[Named, ...]
    indexes: tuple[Named, ...]
    checks: tuple[Named, ...]
    touched: frozenset[Key]
    start: Snapshot
    end: Snapshot


def rewrite_span(rehearsal: Rehearsal, steps: Sequence[Step], done: int) -> RewriteSpan | None:
    """Return the first stretch of the pending steps that writes a table anew, None where there is none.

    `done` statements of the first step were run before; those steps have been rehearsed closely.
    """
    for first in range(len(steps)):
        begun = done if first == 0 else 0
        table = _table(rehearsal, steps[first], begun)
        if table is None:
            continue
        taken = [steps[first]]
        for step in steps[first + 1 :]:
            if step.statements and _table(rehearsal, step, 0) != table:
                break
            taken.append(step)
        rewrites = sum(
            rehearsal.rewrites(step.version, start=begun if step is taken[0] else 0).get(table, 0) for step in taken
        )
        if rewrites:
            return RewriteSpan(table=table, steps=tuple(taken), done=begun, rewrites=rewrites)
    return None


def _table(rehearsal: Rehearsal, step: Step, done: int) -> str | None:
    """Return the one table that the rest of a step changes, None where it changes anything else too."""
    taken = rehearsal.within[step.version][done:]
    if any(statement.changes_rows for statement in step.statements[done:]):
        return None
    keys = _touched(taken)
    tables = {snapshot.table_of(key) for key in keys}
    plain = all(key.kind in _KINDS and _swappable(key, taken) for key in keys)
    table = tables.pop() if len(tables) == 1 and plain else None
    return table if table and all(table in one.tables for one in taken) else None


def _touched(taken: Sequence[Snapshot]) -> frozenset[Key]:
    return frozenset(key for one, other in pairwise(taken) for key in snapshot.changed(one, other))


def _swappable(key: Key, taken: Sequence[Snapshot]) -> bool:
    """Whether a change of this object is no more than a check or an index that is not unique."""
    definitions = [one.objects[key] for one in taken if key in one.objects]
    if key.kind == "constraint":
        return all(definition.startswith("CHECK ") for definition in definitions)
    return key.kind != "index" or all(definition.startswith("CREATE INDEX ") for definition in definitions)


def shape(rehearsal: Rehearsal, found: RewriteSpan, live: Snapshot) -> TargetShape | str:
    """Return what the table becomes, or the reason why it cannot be told."""
    first, last = found.steps[0].version, [step for step in found.steps if step.statements][-1].version
    start, end = rehearsal.within[first][found.done], rehearsal.within[last][-1]
    before = rehearsal.bodies[first][found.done][found.table].columns
    after = rehearsal.bodies[last][-1][found.table].columns
    stay = {name for name, number in before.items() if after.get(name) == number}
    touched = frozenset().union(
        *(
            _touched(rehearsal.within[step.version][found.done if step is found.steps[0] else 0 :])
            for step in found.steps
        )
    )
    here = [name for name in live.order(found.table) if name not in before or name in stay]
    added = [name for name in end.order(found.table) if name not in stay]
    changed = [name for name in stay if _column(start, found.table, name) != _column(end, found.table, name)]
    strange = [name for name in added if name in here]
    strange += [
        key.name
        for key in touched
        if key.kind in ("index", "constraint") and key not in start.objects and key in live.objects
    ]
    if changed or strange:
        said = "a step changes the column" if changed else "it already has part of the new version"
        return f'{said}: "{min(changed or strange)}"'
    return TargetShape(
        table=found.table,
        gone=tuple(name for name in live.order(found.table) if name not in here),
        added=tuple((name, _column(end, found.table, name) or "") for name in added),
        indexes=_ending(found.table, "index", live, end, touched),
        checks=_ending(found.table, "constraint", live, end, touched),
        touched=touched,
        start=start.only(touched).unordered(),
        end=end.only(touched).unordered(),
    )


def _column(taken: Snapshot, table: str, name: str) -> str | None:
    return taken.objects.get(Key("column", table, name))


def _ending(table: str, kind: str, live: Snapshot, end: Snapshot, touched: frozenset[Key]) -> tuple[Named, ...]:
    """Return what is there and stays, whoever made it, and what the steps end with."""
    kept = {key: text for key, text in live.validated().objects.items() if key not in touched}
    made = {key: text for key, text in end.objects.items() if key in touched}
    found = sorted((key, text) for key, text in {**kept, **made}.items() if (key.kind, key.parent) == (kind, table))
    return tuple((key.name, text) for key, text in found if not text.startswith("PRIMARY KEY "))

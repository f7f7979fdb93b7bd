"""Which pending steps can run as one online rewrite of a table, and the table's shape at the end. Pure functions.

Steps qualify if they change nothing but columns, indexes and checks of one table, and if each column that stays is
the same column at the end. Copying the rows into the final structure is then all that has to be done. Whether the
table itself allows an online rewrite is in `tables`; the rewrite is in the room `online`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from schema_migrator.catalog import snapshot
from schema_migrator.catalog.snapshot import Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.version import Version

    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.releases.source import Step

Named = tuple[str, str]
"""An object's name and its definition as in a snapshot."""

_KINDS = frozenset({"column", "order", "index", "constraint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteSpan:
    """Consecutive steps that change one table and would rewrite it `rewrites` times in place.

    The first `done` statements of the first step have already run.
    """

    table: str
    steps: tuple[Step, ...]
    done: int
    rewrites: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetShape:
    """The shape that a table gets: the live table without the `gone` columns, with the `added` ones at the end.

    `indexes` and `checks` are all that the table has at the end, except for the primary key. `touched` are the objects
    that the steps change, `start` and `end` the snapshots of these objects before and after.
    """

    table: str
    gone: tuple[str, ...]
    added: tuple[Named, ...]
    indexes: tuple[Named, ...]
    checks: tuple[Named, ...]
    touched: frozenset[Key]
    start: Snapshot
    end: Snapshot


def rewrite_span(rehearsal: Rehearsal, steps: Sequence[Step], done: Mapping[Version, int]) -> RewriteSpan | None:
    """Return the first span of the pending steps that rewrites a table, None if there is none.

    `done` is how many of a step's statements have already run, by its version; of any other step, none have. The
    rehearsal must have a snapshot for each statement of the steps.
    """
    for first in range(len(steps)):
        begun = done.get(steps[first].version, 0)
        table = _table(rehearsal, steps[first], begun)
        if table is None:
            continue
        span = [steps[first]]
        for step in steps[first + 1 :]:
            if step.statements and _table(rehearsal, step, 0) != table:
                break
            span.append(step)
        rewrites = sum(
            rehearsal.rewrites(step.version, start=begun if step is span[0] else 0).get(table, 0) for step in span
        )
        if rewrites:
            return RewriteSpan(table=table, steps=tuple(span), done=begun, rewrites=rewrites)
    return None


def _table(rehearsal: Rehearsal, step: Step, done: int) -> str | None:
    """Return the one table that the rest of a step changes, None if it changes anything else or any rows."""
    snapshots = rehearsal.within[step.version][done:]
    if any(statement.changes_rows for statement in step.statements[done:]):
        return None
    keys = _touched(snapshots)
    tables = {snapshot.table_of(key) for key in keys}
    plain = all(key.kind in _KINDS and _swappable(key, snapshots) for key in keys)
    return tables.pop() if len(tables) == 1 and plain else None


def _touched(taken: Sequence[Snapshot]) -> frozenset[Key]:
    return frozenset(key for before, other in pairwise(taken) for key in snapshot.changed(before, other))


def _swappable(key: Key, taken: Sequence[Snapshot]) -> bool:
    """Whether a rewrite can change this object: a constraint must be a CHECK, an index must not be unique."""
    definitions = [snap.objects[key] for snap in taken if key in snap.objects]
    if key.kind == "constraint":
        return all(definition.startswith("CHECK ") for definition in definitions)
    return key.kind != "index" or all(definition.startswith("CREATE INDEX ") for definition in definitions)


def shape(rehearsal: Rehearsal, found: RewriteSpan, live: Snapshot) -> TargetShape | str:
    """Return the shape that the table gets, or the reason why it cannot be determined."""
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
    staying = [name for name in live.order(found.table) if name not in before or name in stay]
    added = [name for name in end.order(found.table) if name not in stay]
    changed = [name for name in stay if _column(start, found.table, name) != _column(end, found.table, name)]
    present = [name for name in added if name in staying]
    present += [
        key.name
        for key in touched
        if key.kind in ("index", "constraint") and key not in start.objects and key in live.objects
    ]
    if changed or present:
        reason = "a step changes the column" if changed else "it already has part of the new version"
        return f'{reason}: "{min(changed or present)}"'
    return TargetShape(
        table=found.table,
        gone=tuple(name for name in live.order(found.table) if name not in staying),
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
    """Return the table's objects of a kind at the end, sorted: all that the steps do not change, and what they create.

    Objects that stay include the user's own. The primary key is left out.
    """
    kept = {key: text for key, text in live.validated().objects.items() if key not in touched}
    new = {key: text for key, text in end.objects.items() if key in touched}
    objects = sorted((key, text) for key, text in {**kept, **new}.items() if (key.kind, key.parent) == (kind, table))
    return tuple((key.name, text) for key, text in objects if not text.startswith("PRIMARY KEY "))

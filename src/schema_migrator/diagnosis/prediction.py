"""Predicts what pending steps do to a schema as it is, with its manual changes, and what would make a step fail.

Pure functions. The program never runs a step on a guess: it finds everything that would stop a step halfway before the
first step runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from schema_migrator.catalog import columns
from schema_migrator.catalog.snapshot import Key, Snapshot, changed, table_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.version import Version

    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.releases.source import Step
    from schema_migrator.releases.statements import Statement

_RERUNS = re.compile(r"\bIF\s+(NOT\s+)?EXISTS\b", re.IGNORECASE)
NONE_BEGUN: Mapping[Version, Sequence[int]] = MappingProxyType({})
REPAIR = "repair it first: schema-migrator verify shows the SQL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that would stop a plan, and what to do about it, one line each.

    `of_role`: another role, or another server, would not have the problem.
    """

    found: str
    remedy: str
    of_role: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The snapshots with which a step is compared before it runs and before it is committed.

    `touched` are the objects that the step changes, without the order of columns, which no step can correct. `start`
    and `end` are these objects before and after the step: the rehearsed changes applied to the live schema. `dropped`
    are the tables and columns that the step drops; an object that depends on them and is not among the `known` ones
    would be dropped unnoticed. `created` are new objects, and `retyped` are columns that get another type.
    """

    touched: frozenset[Key]
    start: Snapshot
    end: Snapshot
    dropped: frozenset[Key]
    known: frozenset[Key]
    created: frozenset[Key] = frozenset()
    retyped: frozenset[Key] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """The step to a version as it will run on the live schema. `start` and `end` are complete snapshots.

    `remaining` are the indexes of the statements to run. A statement whose effect already exists is left out.
    """

    version: Version
    remaining: tuple[int, ...]
    start: Snapshot
    end: Snapshot
    proof: Proof
    problems: tuple[Problem, ...]


def predict(
    rehearsal: Rehearsal, steps: Sequence[Step], live: Snapshot, remaining: Mapping[Version, Sequence[int]] = NONE_BEGUN
) -> tuple[Predicted, ...]:
    """Return the prediction for each of the steps, which run one after another on a live schema.

    `remaining` are the indexes of the statements to run, of a step that was begun; of any other step, all run. The
    steps must have been rehearsed closely.
    """
    predictions: list[Predicted] = []
    current = live.validated().unordered()
    for step in steps:
        rest = remaining.get(step.version, range(len(step.statements)))
        predictions.append(_predict(rehearsal, step, rest, current))
        current = predictions[-1].end
    return tuple(predictions)


def _predict(rehearsal: Rehearsal, step: Step, remaining: Iterable[int], start: Snapshot) -> Predicted:
    taken = [snapshot.unordered() for snapshot in rehearsal.within[step.version]]
    current, kept = start, list[int]()
    problems: list[Problem] = []
    created: set[Key] = set()
    retyped: set[Key] = set()
    for index in remaining:
        statement, before, after = step.statements[index], taken[index], taken[index + 1]
        effect = changed(before, after)
        if effect and not _RERUNS.search(statement.text) and _already_done(effect, current, after):
            continue
        kept.append(index)
        problems += _problems(f"step {step.version}", statement, before, after, current)
        created |= effect - before.objects.keys()
        kept_columns = [
            key for key in effect if key.kind == "column" and key in before.objects and key in after.objects
        ]
        retyped |= {key for key in kept_columns if columns.retyped(before.objects[key], after.objects[key])}
        current = _applied(current, before, after)
    touched = frozenset().union(*(changed(before, after) for before, after in pairwise(taken)))
    proof = Proof(
        touched=touched,
        start=start.only(touched),
        end=current.only(touched),
        dropped=rehearsal.dropped(step.version),
        known=rehearsal.known,
        created=frozenset(created - start.objects.keys()),
        retyped=frozenset(retyped),
    )
    return Predicted(
        version=step.version,
        remaining=tuple(kept),
        start=start,
        end=current,
        proof=proof,
        problems=tuple(dict.fromkeys(problems)),
    )


def _already_done(effect: Collection[Key], current: Snapshot, after: Snapshot) -> bool:
    return all(current.objects.get(key) == after.objects.get(key) for key in effect)


def _applied(current: Snapshot, before: Snapshot, after: Snapshot) -> Snapshot:
    """Return the schema after a statement. Parts of an object that the statement does not change stay as they are."""
    effect = changed(before, after)
    gone = effect - after.objects.keys()
    objects = {
        key: text for key, text in current.objects.items() if key not in gone and not depends_on(key, text, gone)
    }
    for key in effect & after.objects.keys():
        old, new, here = before.objects.get(key), after.objects[key], objects.get(key)
        merged = key.kind == "column" and old is not None and here is not None
        objects[key] = columns.altered(old or "", new, here or "") if merged else new
    return Snapshot(objects)


def depends_on(key: Key, definition: str, gone: Iterable[Key]) -> bool:
    """Whether an object is dropped with the tables and columns that are gone: its table, or an index's column."""
    tables = [lost for lost in gone if lost.kind == "table" and lost.name == key.parent]
    columns = [lost.name for lost in gone if lost.kind == "column" and lost.parent == key.parent]
    mentioned = key.kind in ("index", "constraint") and any(_mentions(definition, name) for name in columns)
    return bool(tables) or mentioned


def _mentions(definition: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", definition) is not None


def _problems(
    step: str, statement: Statement, before: Snapshot, after: Snapshot, current: Snapshot
) -> Iterator[Problem]:
    """Yield the reasons why a statement would fail on the current schema, or end differently than in the rehearsal."""
    effect, reruns = changed(before, after), bool(_RERUNS.search(statement.text))
    gone = frozenset(key for key in effect if key not in after.objects)
    for key in sorted(effect):
        old, new, here = before.objects.get(key), after.objects.get(key), current.objects.get(key)
        table = Key("table", "", table_of(key) or "")
        if table != key and table in before.objects and "PARTITIONED" in current.objects.get(table, ""):
            yield Problem(found=f"{step} changes the {table}, which was changed to a partitioned table", remedy=REPAIR)
        if old is None and here is not None and not (reruns and here == new):
            yield Problem(found=f"{step} creates the {key}, which already exists", remedy="rename it, or drop it")
        if new is None and here is None and not reruns and not _goes_along(key, old or "", gone):
            yield Problem(found=f"{step} drops the {key}, which does not exist", remedy=REPAIR)
        if old is not None and new is not None and not _alterable(key, old, new, here):
            found = f"is {here}, expected {old}" if here is not None else "is not there"
            yield Problem(found=f"{step} changes the {key}, which {found}", remedy=REPAIR)
        if new is not None:
            yield from _lacking(step, key, new, before, current)
    for key, text in sorted(current.objects.items()):
        if key in before.objects and key in after.objects and depends_on(key, text, gone):
            yield Problem(found=f"{step} drops a column that the {key}, changed by hand, uses", remedy=REPAIR)


def _goes_along(key: Key, old: str, gone: Collection[Key]) -> bool:
    """Whether an object is dropped with its table or column, instead of by its own name."""
    return Key("table", "", key.parent) in gone or (key.kind != "column" and depends_on(key, old, gone))


def _alterable(key: Key, old: str, new: str, here: str | None) -> bool:
    """Whether a rehearsed change has the same effect on the object as it is `here`."""
    if here is None or key.kind != "column":
        return here in (old, new)
    return not columns.unalterable(old, new, here)


def _lacking(step: str, key: Key, new: str, before: Snapshot, current: Snapshot) -> Iterator[Problem]:
    """Yield a problem for each column, function and extension that a new definition needs, if missing or changed."""
    if key.kind == "column":
        new = columns.parts(new).value
    elif key.kind not in ("index", "constraint"):
        return
    for need, expected in sorted(before.objects.items()):
        found, needed = current.objects.get(need), False
        if need.kind == "column":
            needed = need.parent == key.parent and not columns.same_use(expected, found) and _mentions(new, need.name)
        elif need.kind == "function":
            needed = _calls(new, _bare(need.name)) and not _same_call(need, expected, current)
        elif need.kind == "extension":
            needed = found is None and key.kind == "index" and " USING gin " in new
        if needed:
            how = "is not there" if found is None else "was changed by hand"
            yield Problem(found=f"{step} creates the {key}, which needs the {need}: that {how}", remedy=REPAIR)


def _calls(definition: str, function: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(function)}\(", definition) is not None


def _same_call(key: Key, expected: str, current: Snapshot) -> bool:
    """Whether an index or a column can still call a function, and no other function is called instead."""
    found = current.objects.get(key)
    twins = [other for other in current.objects if other.kind == "function" and _bare(other.name) == _bare(key.name)]
    head = expected.partition(" LANGUAGE ")[0]
    return found is not None and len(twins) == 1 and found.startswith(f"{head} ") and " IMMUTABLE " in found


def _bare(function: str) -> str:
    return function.partition("(")[0]


def undrifted(taken: Sequence[Snapshot], live: Snapshot) -> Snapshot:
    """Return the live schema without drift in the objects that a step changes.

    In these objects, every part that no statement of the step changes is as it was rehearsed. The parts that remain
    show how far the step has come. `taken` are the snapshots around the step's statements.
    """
    keys = frozenset().union(*(changed(before, after) for before, after in pairwise(taken))) & live.objects.keys()
    rehearsed = {key: [snapshot.objects.get(key) for snapshot in taken] for key in keys}
    return Snapshot({**live.objects, **{key: _stands_for(rehearsed[key], key, live.objects[key]) for key in keys}})


def _stands_for(rehearsed: Sequence[str | None], key: Key, found: str) -> str:
    """Return the rehearsed definition that an object counts as, or its own if it counts as none of them."""
    texts = [text for text in rehearsed if text is not None]
    if found in texts or key.kind == "order":
        return found
    if key.kind == "table":
        return texts[0] if "PARTITIONED" not in found else found
    if rehearsed[0] is not None and rehearsed[-1] is None and len(set(texts)) == 1:
        return texts[0]  # the step drops it, whatever it looks like
    return columns.stands_for(texts, found) if key.kind == "column" else found

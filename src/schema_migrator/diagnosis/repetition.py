"""Which statements of a step may already have run, and how a resumed step runs them. Pure functions.

A statement that changes only rows leaves no trace in the catalogs.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING

from schema_migrator.releases import repetition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.releases.source import Step
    from schema_migrator.releases.statements import Statement

_KEY = re.compile(r"(?:PRIMARY KEY|UNIQUE) \((?P<columns>[^()]*)\).*", re.DOTALL)


def to_run(rehearsal: Rehearsal, step: Step, remaining: Sequence[int]) -> tuple[Statement, ...]:
    """Return the statements of a step with these indexes; those that may have run in a form that may run again."""
    doubtful = _doubtful(rehearsal, step, remaining)
    return tuple(
        _again(rehearsal, step, index) or step.statements[index] if index in doubtful else step.statements[index]
        for index in remaining
    )


def unrepeatable(rehearsal: Rehearsal, step: Step, remaining: Sequence[int]) -> Statement | None:
    """Return the first statement of a begun step that may have run and must not run twice, None if there is none."""
    doubtful = _doubtful(rehearsal, step, remaining)
    return next((step.statements[index] for index in doubtful if _again(rehearsal, step, index) is None), None)


def separable(rehearsal: Rehearsal, step: Step, remaining: Sequence[int]) -> bool:
    """Whether a step may be committed in parts: whatever is killed in between, the next run can go on."""
    return all(_again(rehearsal, step, index) is not None for index in remaining)


def _doubtful(rehearsal: Rehearsal, step: Step, remaining: Sequence[int]) -> list[int]:
    """Return the indexes of the statements about which the catalogs say nothing.

    They are those before the first statement whose effect is missing; after statements that ran out of order, all.
    """
    taken = rehearsal.within[step.version]
    silent = [index for index in remaining if taken[index] == taken[index + 1]]
    in_order = [*remaining] == [*range(len(step.statements) - len(remaining), len(step.statements))]
    return [*takewhile(lambda index: index in silent, remaining)] if in_order else silent


def _again(rehearsal: Rehearsal, step: Step, index: int) -> Statement | None:
    statement, before = step.statements[index], rehearsal.within[step.version][index]
    return repetition.repeatable(statement, _keys(before, repetition.inserted_into(statement)))


def _keys(taken: Snapshot, table: str | None) -> list[frozenset[str]]:
    """Return the columns of a table's primary key and unique constraints."""
    texts = (text for key, text in taken.objects.items() if key.kind == "constraint" and key.parent == table)
    return [frozenset(found["columns"].split(", ")) for text in texts if (found := _KEY.fullmatch(text))]

"""Refuses to plan from states that allow no plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from schema_migrator.diagnosis import repetition
from schema_migrator.diagnosis.state import Absent, At, Between, Unknown, Unrecorded
from schema_migrator.errors import UnknownState
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.version import Version

    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.releases.source import Source, Step, Store


def refuse(source: Source, overview: Overview, target: Version, database: str, *, adopt: bool) -> None:
    """Raise UnknownState if the state allows no plan."""
    state = overview.state
    match state:
        case Absent() | Between():
            return
        case At():
            if state.min_compatible > target > UNVERSIONED:  # a set-up alone (target 0.0) accepts any version
                raise UnknownState(
                    f'database "{database}" is at {state.version}, which works with servers from '
                    f"{state.min_compatible} on, but the target is {target}",
                    hint="set TEMPORAL_VERSION to the release that runs, or a newer one",
                    store=source.store,
                )
        case Unrecorded():
            if not (state.confirmed or adopt):
                raise UnknownState(
                    f'database "{database}" has the tables of {state.version}, but {state.recorded or "no version"}'
                    " is recorded for it",
                    hint=f"if {state.version} is right, record it: schema-migrator migrate --adopt",
                    store=source.store,
                )
        case Unknown():
            raise UnknownState(f'database "{database}": {state.reason}', hint=state.hint, store=source.store)
        case _:
            assert_never(state)


def refuse_repetition(rehearsal: Rehearsal, step: Step, remaining: Sequence[int], database: str, store: Store) -> None:
    """Raise UnknownState if an interrupted step may have run a statement that would change rows a second time."""
    statement = repetition.unrepeatable(rehearsal, step, remaining)
    if statement is not None:
        raise UnknownState(
            f'database "{database}": step {step.version} was interrupted, and its tables do not show whether'
            f" {statement.file}:{statement.line} ({statement.summary}) has run, which must not change rows twice",
            hint="find out from the rows whether it has run, and run by hand what is missing of the step's files; then"
            f" set curr_version in schema_version to {step.version}",
            store=store,
        )

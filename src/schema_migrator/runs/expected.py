"""What a guarded transaction expects of the store that it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.diagnosis.state import Overview, State
    from schema_migrator.planning.plan import Plan, PlannedStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The version that is recorded when a transaction begins, and the one that it ends with.

    `database` is the name in the version row, and `schema` has the version table. `recorded` is None if there is no
    version row. `state`: the whole state in which the transaction begins, None if the version is enough.
    """

    database: str
    schema: str
    recorded: Version | None
    reached: Version
    state: State | None = None

    def met_by(self, overview: Overview) -> bool:
        """Whether the store is as expected when the transaction begins."""
        return overview.recorded == self.recorded and self.state in (None, overview.state)


def of_plan(plan: Plan, reached: Version) -> Expected:
    """Return what a transaction expects that begins where the plan does."""
    state = plan.state if plan.together else None
    return Expected(database=plan.database, schema=plan.schema, recorded=plan.recorded, reached=reached, state=state)


def of_step(plan: Plan, step: PlannedStep, reached: Version) -> Expected:
    """Return what a transaction expects that begins where a step of the plan does."""
    without_row = plan.recorded is None and step.previous == UNVERSIONED
    recorded = None if without_row else step.previous
    return Expected(database=plan.database, schema=plan.schema, recorded=recorded, reached=reached)

"""The choice of the executor: this program, or the vendor's binary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from schema_migrator.execution import native, vendor_tool

if TYPE_CHECKING:
    from schema_migrator.execution.native import Outcome
    from schema_migrator.planning.plan import Plan
    from schema_migrator.runs.context import RunContext


class Executor(Protocol):
    """Applies a plan under the advisory lock."""

    def run(self, work: RunContext, plan: Plan) -> tuple[Outcome, ...]:
        """Apply the plan's steps, and return what was applied. What was committed before an error stays."""
        ...


def executor_of(plan: Plan) -> Executor:
    """Return the executor that the plan names."""
    return vendor_tool if plan.by_tool else native

"""Refusals of plans that would rewrite a large table in place, under its lock, without --rewrite in-place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_migrator.diagnosis.prediction import Problem
from schema_migrator.planning.plan import ONLINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schema_migrator.estimation.model import Forecast
    from schema_migrator.planning.plan import Plan, PlannedStep
    from schema_migrator.planning.tables import Table

_ASK = "or use --rewrite in-place"


def blocked(plan: Plan, least: int) -> tuple[tuple[str, str], ...]:
    """Return (table, reason) for each table of at least so many bytes that the plan could only rewrite in place."""
    found = [(plan.online.table, reason) for reason in plan.online.blockers] if plan.online else []
    versions = plan.online.versions if plan.online else ()
    apart = (step for step in plan.steps if step.step.version not in versions)
    return (*found, *(pair for step in apart for pair in _beside(step, least)))


def _beside(step: PlannedStep, least: int) -> list[tuple[str, str]]:
    sizes = {lock.table: lock.size for lock in step.locks}
    large = [table for table in step.rewrites if sizes[table] >= least]
    return [(table, f"step {step.step.version} rewrites it in a way that needs its lock") for table in large]


def problems(plan: Plan, forecast: Forecast, least: int) -> list[Problem]:
    """Return the refusals of a plan: what blocks the online rewrite, the remedy, and the cost of doing it in place."""
    begun = {leftover.table for leftover in plan.leftovers if leftover.unfinished}
    return [
        Problem(
            found=f'"{table}" cannot be rewritten online: {reason}',
            remedy=f"remove that for the duration of the rewrite, {_ASK}: {cost(plan, forecast, table)}"
            + (_KEPT if table in begun else ""),
        )
        for table, reason in blocked(plan, least)
    ]


_KEPT = (
    "; the unfinished copy is kept until then, and a trigger on the table logs changes: "
    "schema-migrator migrate --abandon removes both"
)


def cost(plan: Plan, forecast: Forecast, table: str) -> str:
    """Return a sentence on how long the steps that rewrite a table in place would lock it, in seconds."""
    steps = [step.step.version for step in plan.steps if table in step.rewrites]
    unknown = [forecast.unmeasured[version] for version in steps if version in forecast.unmeasured]
    if unknown:
        return f"how long that would lock the table cannot be estimated ({unknown[0]})"
    locked = [forecast.steps[version].locked for version in steps if version in forecast.steps]
    likely, high = sum(estimate.likely for estimate in locked), sum(estimate.high for estimate in locked)
    times = f" in {len(steps)} steps" if len(steps) > 1 else ""
    return f"that would lock the table for about {likely:.0f} s, at worst {high:.0f} s{times}"


def unrehearsed(plan: Plan, tables: Mapping[str, Table]) -> list[Problem]:
    """Return one refusal for each large table: without a rehearsal it is unknown what the steps rewrite."""
    large: Sequence[str] = [name for name, table in sorted(tables.items()) if table.size >= ONLINE_BYTES]
    return [
        Problem(
            found=f'whether the steps would rewrite "{name}" ({tables[name].size >> 20} MB) in place, under its lock,'
            " is unknown without a rehearsal",
            remedy=f'run as the owner: GRANT CREATE ON DATABASE "{plan.database}" TO the role, {_ASK}',
        )
        for name in large
    ]

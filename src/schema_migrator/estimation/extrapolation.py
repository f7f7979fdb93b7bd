"""How long a plan's steps will take and lock tables: pure functions from measured trials to estimates.

Measuring is in `trials`. Refusals of large in-place rewrites are in `in_place`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from schema_migrator.estimation.model import (
    BRIEF,
    NOTHING,
    Cost,
    Estimate,
    Forecast,
    StatementGroup,
    StepEstimate,
)

if TYPE_CHECKING:
    from schema_migrator.estimation.model import BlockingTransaction, TableSize, Trial
    from schema_migrator.planning.plan import Plan, PlannedStep

LASTING_SECONDS = 1.0
"""A younger transaction will probably have ended when a step begins."""
_GO_WITH_SHARE = frozenset({"AccessShareLock", "RowShareLock", "ShareLock"})
CONCURRENT_FACTOR = 2.0
"""An index built CONCURRENTLY reads the table twice (PostgreSQL: CREATE INDEX, Building Indexes Concurrently)."""

SPREAD = 2.0
"""Measured times are within this factor of the estimate, unless the server's load has changed much by then."""


def parts(plan: Plan, step: PlannedStep) -> tuple[StatementGroup, ...]:
    """Return how a step's statements run: each group in one transaction under the step's locks, or outside any.

    With the vendor's tool each statement is a group. The statements of an online rewrite do not run: no groups.
    """
    if step.online:
        return ()
    statements = step.statements
    if plan.by_tool and not step.resumed:
        return tuple(
            StatementGroup(places=(place,), alone=statement.concurrent) for place, statement in enumerate(statements)
        )
    alone = [statement.concurrent and step.concurrently for statement in statements]
    groups = groupby(range(len(alone)), alone.__getitem__)
    return tuple(StatementGroup(places=tuple(places), alone=kind) for kind, places in groups)


def worked_on(step: PlannedStep) -> frozenset[str]:
    """Return the tables whose rows a step reads or writes, because it rewrites, indexes or checks them."""
    if step.proof is None:
        return frozenset()
    start, end = step.proof.start.objects, step.proof.end.objects
    built = {key.parent for key in step.proof.touched if key.kind in ("index", "constraint")}
    changed = {
        key.parent
        for key in step.proof.touched
        if key.kind == "column" and key in start and key in end and start[key] != end[key]
    }
    locked = {lock.table for lock in step.locks}
    return frozenset(({*step.rewrites} | built | changed) & locked)


def tables_to_copy(plan: Plan, sizes: tuple[TableSize, ...]) -> frozenset[str]:
    """Return the tables that are large enough for a trial to be worthwhile."""
    large = {size.table for size in sizes if size.matters}
    return frozenset(table for step in plan.steps for table in worked_on(step) & large)


def without_trials(plan: Plan, found: Forecast, reason: str) -> Forecast:
    """Return the forecast; each step that works on a large table, or on unknown ones, is unmeasured for this reason."""
    large = tables_to_copy(plan, found.sizes)
    unmeasured = {
        step.step.version: reason for step in plan.steps if reason and (step.proof is None or worked_on(step) & large)
    }
    return _completed(plan, replace(found, unmeasured=unmeasured))


def with_trials(
    plan: Plan,
    found: Forecast,
    trials: tuple[Trial, ...],
    rows: Mapping[str, int],
    *,
    spent: float,
    left_out: tuple[str, ...],
) -> Forecast:
    """Return the forecast with estimates from trials. `rows`: the live row count of each table that was copied.

    `spent`: seconds that measuring took. `left_out`: indexes that could not be built in the trials.
    """
    sizes = tuple(replace(size, rows=rows.get(size.table, size.rows)) for size in found.sizes)
    worked = [step for step in plan.steps if worked_on(step) & rows.keys()]
    steps = {step.step.version: estimated(plan, step, trials, rows) for step in worked if not step.online}
    online = online_estimate([step for step in worked if step.online], trials, rows)
    done = replace(
        found,
        sizes=sizes,
        steps=steps,
        online=online,
        sampled=trials[-1].rows,
        spent=spent,
        written=sum(trial.written for trial in trials),
        left_out=left_out,
    )
    return _completed(plan, done)


def _completed(plan: Plan, found: Forecast) -> Forecast:
    """Add brief estimates for steps with few or no rows to work on; steps on partitioned tables are unmeasured."""
    brief = StepEstimate(seconds=BRIEF, locked=BRIEF, disk=0)
    partitioned = {
        step.step.version: min(parts) for step in plan.steps if (parts := worked_on(step) & found.partitioned)
    }
    unmeasured = {version: f"{table} is partitioned" for version, table in partitioned.items()} | {**found.unmeasured}
    versions = {step.step.version for step in plan.steps if not step.online} - unmeasured.keys()
    apart = {step.step.version for step in plan.steps if step.online}
    return replace(
        found,
        unmeasured=unmeasured,
        steps={version: found.steps.get(version, brief) for version in sorted(versions)},
        online=found.online or (brief if apart and not apart & unmeasured.keys() else None),
    )


def online_estimate(
    steps: Sequence[PlannedStep], trials: tuple[Trial, ...], rows: Mapping[str, int]
) -> StepEstimate | None:
    """Return the estimate of an online rewrite, None if no step runs online.

    It is the time of the slowest statement, which counts as the rewrite, and of all new indexes. Only the cutover
    blocks other sessions, so `locked` is brief.
    """
    if not steps:
        return None
    counts, whole = _counts(steps[-1], trials, rows)
    costs = [_once(steps, trial) for trial in trials]
    return StepEstimate(
        seconds=_spread(_line(counts, [cost.seconds for cost in costs], whole)),
        locked=BRIEF,
        disk=round(_line(counts, [cost.made for cost in costs], whole)),
    )


def _once(steps: Sequence[PlannedStep], trial: Trial) -> Cost:
    """Return the cost of one rewrite, the slowest of the other statements, and of building all new indexes."""
    built: list[Cost] = []
    others: list[Cost] = []
    for step in steps:
        for statement, cost in zip(step.statements, trial.costs[step.step.version], strict=True):
            (built if statement.text[:6].upper() == "CREATE" else others).append(cost)
    longest = max(others, key=lambda cost: cost.seconds, default=Cost(seconds=0.0, made=0))
    return Cost(
        seconds=longest.seconds + sum(cost.seconds for cost in built),
        made=longest.made + sum(cost.made for cost in built),
    )


def estimated(plan: Plan, step: PlannedStep, trials: tuple[Trial, ...], rows: Mapping[str, int]) -> StepEstimate:
    """Return a step's estimate from trials in ascending order of rows; `rows` are the live tables' row counts."""
    groups = parts(plan, step)
    spans = [_span(step, part, trials, rows) for part in groups]
    held = [span for span, part in zip(spans, groups, strict=True) if not part.alone]
    counts, whole = _counts(step, trials, rows)
    made = [sum(cost.made for cost in trial.costs[step.step.version]) for trial in trials]
    return StepEstimate(
        seconds=sum(spans, NOTHING),
        locked=max(held, key=lambda span: span.likely, default=NOTHING),
        disk=round(_line(counts, made, whole)),
    )


def _counts(step: PlannedStep, trials: tuple[Trial, ...], rows: Mapping[str, int]) -> tuple[list[int], int]:
    """Return the row counts of a step's largest table: in each trial, and in the live table."""
    table = max(worked_on(step) & rows.keys(), key=lambda name: rows[name])
    return [trial.rows[table] for trial in trials], rows[table]


def _span(step: PlannedStep, part: StatementGroup, trials: tuple[Trial, ...], rows: Mapping[str, int]) -> Estimate:
    """Extrapolate the total time of a group's statements to all rows. A single one is too brief to be measured well."""
    counts, whole = _counts(step, trials, rows)
    seconds = [sum(trial.costs[step.step.version][place].seconds for place in part.places) for trial in trials]
    return _spread(_line(counts, seconds, whole) * (CONCURRENT_FACTOR if part.alone else 1))


def _spread(likely: float) -> Estimate:
    return Estimate(likely=likely, low=likely / SPREAD, high=likely * SPREAD)


def _line(counts: list[int], values: Sequence[float], whole: int) -> float:
    """Extrapolate the line through the last two points to `whole`; with only one point, the line from zero."""
    count, value = counts[-1], values[-1]
    if whole <= count:
        return value
    before, less = (counts[-2], values[-2]) if len(counts) > 1 and counts[-2] < count else (0, 0)
    return value + max(value - less, 0) / (count - before) * (whole - count)


def blocked_by(plan: Plan, found: Forecast) -> tuple[BlockingTransaction, ...]:
    """Return the transactions whose locks conflict with the plan's and that are old enough to last."""
    strong = {lock.table for step in plan.steps for lock in step.locks if lock.mode == "ACCESS EXCLUSIVE"}
    return tuple(
        holder
        for holder in found.holders
        if (holder.table in strong or holder.mode not in _GO_WITH_SHARE)
        and (holder.pid is None or holder.seconds is None or holder.seconds >= LASTING_SECONDS)
    )


def refusal(plan: Plan, found: Forecast, limit: float) -> str:
    """Return why a plan would lock a table for longer than the limit, in seconds; empty if it would not.

    The worst case counts, and an unmeasured step counts as too long. An online rewrite locks its table only for the
    cutover, and gives up a cutover that lasts too long, so it is not checked.
    """
    for step in plan.steps:
        version, tables = step.step.version, " and ".join(lock.table for lock in step.locks) or "its tables"
        if step.online:
            continue
        if version in found.unmeasured:
            return (
                f"it cannot be estimated how long step {version} would lock {tables} ({found.unmeasured[version]}),"
                f" the limit is {limit:g} s"
            )
        locked = found.steps[version].locked if version in found.steps else NOTHING
        if locked.high > limit:
            return (
                f"step {version} would lock {tables} for about {locked.likely:.0f} s, at worst"
                f" {locked.high:.0f} s, the limit is {limit:g} s"
            )
    return ""

"""The planning stage: a store's plan, checked, with its forecast and the limits that it must keep to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from schema_migrator.catalog.facts import leftover_indexes
from schema_migrator.commands.store_tasks import steadily
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.state import Unknown
from schema_migrator.errors import LockTooLong, PreflightFailed
from schema_migrator.estimation import extrapolation, in_place, trials
from schema_migrator.online import prechecks
from schema_migrator.planning import plan, preflight, tables

if TYPE_CHECKING:
    from schema_migrator.commands.store_tasks import StoreTask
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.examine import Examination
    from schema_migrator.diagnosis.prediction import Problem
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.estimation.model import Forecast
    from schema_migrator.planning.plan import Plan


def planned(task: StoreTask, overview: Overview) -> tuple[Examination, Plan]:
    """Return the examination and the checked plan of a store, in a first look at it."""
    return steadily(task, overview, checked_plan, lambda planned: not examine.at_rest(planned[0].state))


def checked_plan(task: StoreTask, overview: Overview, checked: Plan | None = None) -> tuple[Examination, Plan]:
    """Plan with all that is known, and refuse what preflight speaks against, unless it was checked before."""
    run = task.settings.run
    if isinstance(overview.state, Unknown) and overview.state.refinable and not overview.facts.may_rehearse:
        raise cannot_rehearse(task, overview)
    found = examine.examine(task.place, overview, task.target)
    made = plan.build(
        task.place.source,
        found.overview,
        task.target,
        database=task.store.database,
        options=_plan_options(task.settings),
        inputs=_plan_inputs(task, found),
    )
    if made != checked:
        rehearsed = not run.no_verify or run.rewrite == "online"
        way = preflight.session(task.place.conn, made, task.store, task.interrupt)
        blockers = _in_place(task, found, made)
        preflight.check(task.place.conn, made, overview, verify=rehearsed, way=way, blockers=blockers)
    return found, made


def _in_place(task: StoreTask, found: Examination, made: Plan) -> list[Problem]:
    """Return the refusals of large tables that would be rewritten in place, unless that is asked for."""
    if task.settings.run.rewrite == "in-place" or made.together or not made.steps:
        return []
    if found.rehearsal is None:
        return in_place.unrehearsed(made, tables.read(task.place.conn, made.schema))
    return in_place.problems(made, measured(task, found, made)) if in_place.blocked(made) else []


def _plan_options(settings: Settings) -> plan.PlanOptions:
    run = settings.run
    return plan.PlanOptions(adopt=run.adopt, by_tool=run.executor == "sql-tool", rewrite=run.rewrite)


def _plan_inputs(task: StoreTask, found: Examination) -> plan.PlanInputs | None:
    if found.live is None or found.rehearsal is None:
        return None
    known = tables.read(task.place.conn, found.facts.schema or "")
    invalid = found.facts.invalid  # the steps run after these are rebuilt
    live = found.live.snapshot.rebuilt(invalid, leftover_indexes(invalid))
    return plan.PlanInputs(rehearsal=found.rehearsal, live=live, tables=known)


def cannot_rehearse(task: StoreTask, overview: Overview) -> PreflightFailed:
    """Return the refusal of what takes a rehearsal."""
    problem = preflight.cannot_rehearse(overview.facts, task.store.database)
    return PreflightFailed(f'role "{overview.facts.role}": {problem.found}', hint=problem.remedy)


def enforce_lock_limit(task: StoreTask, found: Examination, made: Plan, weighed: Plan | None = None) -> None:
    """Raise LockTooLong where a table would be locked for longer than it may; measured only where there is a limit.

    What runs the same way as in a plan that was weighed before is not measured again.
    """
    limit = task.settings.run.max_lock_seconds
    if limit is None or (weighed is not None and _execution_modes(made) == _execution_modes(weighed)):
        return
    reason = extrapolation.refusal(made, measured(task, found, made), limit)
    if reason:
        online = made.online is not None and made.online.declined
        way = "rewrite it online (--rewrite online)" if online else "see schema-migrator plan"
        raise LockTooLong(reason, hint=f"{way}, or raise --max-lock-seconds")


def refuse_blind(task: StoreTask, made: Plan) -> None:
    """Raise PreflightFailed where an online rewrite is to keep to limits that our role cannot see."""
    if made.online is not None and made.online.shape is not None:
        found = prechecks.look(task.place.conn, task.settings.run)
        begun = any(one.unfinished for one in made.leftovers)
        prechecks.judge_sight(made.online, task.settings.run, found, begun=begun)


def with_forecast(task: StoreTask, found: Examination, made: Plan) -> Plan:
    """Return the plan with what its online rewrite will take, measured only where the disk is to be checked."""
    if task.settings.run.disk_free is None or made.online is None or made.online.shape is None:
        return made
    return forecasted(made, measured(task, found, made))


def forecasted(made: Plan, forecast: Forecast) -> Plan:
    """Return the plan with what the forecast says of its online rewrite."""
    if made.online is None or forecast.online is None:
        return made
    return replace(made, online=replace(made.online, forecast=forecast.online.disk or None))


def measured(task: StoreTask, found: Examination, made: Plan) -> Forecast:
    """Return what the plan takes, measured on copies of some rows."""
    return trials.forecast(task.place.conn, task.place.source, made, _plan_inputs(task, found), task.interrupt)


def _execution_modes(made: Plan) -> list[object]:
    return [(one.step.version, one.statements, one.concurrently, one.online) for one in made.steps]

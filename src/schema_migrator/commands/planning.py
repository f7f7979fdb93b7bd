"""The planning stage of `plan` and `migrate`: a store's checked plan, its forecast and its limits.

The plan itself is built in the room `planning`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from schema_migrator.catalog.facts import leftover_indexes
from schema_migrator.commands.store_tasks import steadily
from schema_migrator.config.rehearsal_place import FLAG
from schema_migrator.diagnosis import examine, verdict
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
    """Return the examination and the checked plan of a store, from its first overview."""
    return steadily(task, overview, checked_plan, lambda planned: not examine.at_rest(planned[0].state))


def checked_plan(task: StoreTask, overview: Overview, checked: Plan | None = None) -> tuple[Examination, Plan]:
    """Return the examination and the plan. Raises what preflight refuses, unless the plan equals `checked`."""
    run = task.settings.run
    refinable = isinstance(overview.state, Unknown) and overview.state.refinable
    if refinable and not task.place.may_rehearse(overview.facts):
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
        way = [*_session(task, made), *_unprotected(task, found, made)]
        blockers = _in_place(task, found, made)
        preflight.check(task.place.conn, made, overview, verify=rehearsed, way=way, blockers=blockers)
    return found, made


def _in_place(task: StoreTask, found: Examination, made: Plan) -> list[Problem]:
    """Return the refusals of tables that would be rewritten in place; none if that was asked for.

    Small tables are refused only if a rewrite online was asked for.
    """
    least = 0 if task.settings.run.rewrite == "online" else plan.ONLINE_BYTES
    if task.settings.run.rewrite == "in-place" or made.together or not made.steps:
        return []
    if found.rehearsal is None:
        return in_place.unrehearsed(made, tables.read(task.place.conn, made.schema))
    return in_place.problems(made, measured(task, found, made), least) if in_place.blocked(made, least) else []


def _session(task: StoreTask, made: Plan) -> list[Problem]:
    """Return what keeps the plan from having a session of its own; a run that only looks needs none."""
    if task.place.stage is not None:
        return []
    return preflight.session(task.place.conn, made, task.store, task.interrupt)


def _unprotected(task: StoreTask, found: Examination, made: Plan) -> list[Problem]:
    """Return the refusal of steps that might undo an accepted difference, because nothing was rehearsed."""
    blind = found.rehearsal is None and made.steps and not made.together
    return [preflight.UNPROTECTED] if blind and task.place.acceptance.valid else []


def _plan_options(settings: Settings) -> plan.PlanOptions:
    run = settings.run
    return plan.PlanOptions(adopt=run.adopt, by_tool=run.executor == "sql-tool", rewrite=run.rewrite)


def _plan_inputs(task: StoreTask, found: Examination) -> plan.PlanInputs | None:
    if found.live is None or found.rehearsal is None:
        return None
    known = tables.read(task.place.conn, found.facts.schema or "")
    invalid = found.facts.invalid  # these are rebuilt before the steps run
    live = found.live.snapshot.rebuilt(invalid, leftover_indexes(invalid))
    judged = verdict.judge_state(task.subject, found)
    accepted = judged.accepted if judged else ()
    return plan.PlanInputs(rehearsal=found.rehearsal, live=live, tables=known, accepted=accepted)


def cannot_rehearse(task: StoreTask, overview: Overview) -> PreflightFailed:
    """Return the refusal of a command that needs a rehearsal, for a role that may not create the scratch schema."""
    problem = preflight.cannot_rehearse(overview.facts, task.store.database)
    return PreflightFailed(f'role "{overview.facts.role}": {problem.found}', hint=problem.remedy)


def role_lacks(task: StoreTask, found: Examination, made: Plan) -> tuple[Problem, ...]:
    """Return what the role would need to migrate, for a run that only looks; empty for any other."""
    if task.place.stage is None:
        return ()
    return preflight.role_lacks(made, found.facts, found.overview.whose)


def enforce_lock_limit(task: StoreTask, found: Examination, made: Plan, weighed: Plan | None = None) -> None:
    """Raise LockTooLong if a table would be locked for longer than the limit. Measures only if there is a limit.

    A plan that runs in the same way as `weighed`, which was measured before, is not measured again.
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
    """Raise PreflightFailed if an online rewrite has limits on what our role cannot see."""
    if made.online is not None and made.online.shape is not None:
        conditions = prechecks.look(task.place.conn, task.settings.run)
        begun = any(leftover.unfinished for leftover in made.leftovers)
        prechecks.judge_sight(made.online, task.settings.run, conditions, begun=begun)


def with_forecast(task: StoreTask, found: Examination, made: Plan) -> Plan:
    """Return the plan with the forecast of its online rewrite; measures only if the disk space will be checked."""
    if task.settings.run.disk_free is None or made.online is None or made.online.shape is None:
        return made
    return forecasted(made, measured(task, found, made))


def forecasted(made: Plan, forecast: Forecast) -> Plan:
    """Return the plan with the forecast's disk space, in bytes, for its online rewrite."""
    if made.online is None or forecast.online is None:
        return made
    return replace(made, online=replace(made.online, forecast=forecast.online.disk or None))


def measured(task: StoreTask, found: Examination, made: Plan) -> Forecast:
    """Return the plan's forecast, measured on copies of some rows unless --no-measure or --rehearse-on was given."""
    inputs = _plan_inputs(task, found)
    unmeasured = FLAG if task.place.stage else "--no-measure" if task.settings.run.no_measure else ""
    return trials.forecast(task.place.conn, task.place.source, made, inputs, task.interrupt, unmeasured=unmeasured)


def _execution_modes(made: Plan) -> list[object]:
    return [(step.step.version, step.statements, step.concurrently, step.online) for step in made.steps]

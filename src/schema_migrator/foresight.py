"""A store's plan, made with all that is known and checked; what it costs, and whether that is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator import estimate, examine, measure, plan, preflight, tables
from schema_migrator.errors import LockTooLong, PreflightFailed
from schema_migrator.state import Unknown

if TYPE_CHECKING:
    from schema_migrator.estimate import Outlook
    from schema_migrator.examine import Examination
    from schema_migrator.plan import Plan
    from schema_migrator.settings import Settings
    from schema_migrator.state import Sight
    from schema_migrator.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What `migrate` would do to one store, what that costs, and why it refuses (empty: it does not)."""

    plan: Plan
    outlook: Outlook
    refusal: str = ""


def checked_plan(task: Task, sight: Sight, checked: Plan | None = None) -> tuple[Examination, Plan]:
    """Plan with all that is known, and refuse what preflight speaks against, unless it was checked before."""
    run = task.settings.run
    if isinstance(sight.state, Unknown) and sight.state.refinable and not sight.facts.may_rehearse:
        raise cannot_rehearse(task, sight)
    found = examine.examine(task.place, sight, task.target)
    made = plan.build(
        task.place.source,
        found.sight,
        task.target,
        database=task.store.database,
        wishes=_wishes(task.settings),
        knowledge=_knowledge(task, found),
    )
    if made != checked:
        rehearsed = not run.no_verify or run.rewrite == "online"
        preflight.check(task.place.conn, made, sight.facts, task.store, verify=rehearsed)
    return found, made


def _wishes(settings: Settings) -> plan.Wishes:
    run = settings.run
    return plan.Wishes(adopt=run.adopt, by_tool=run.executor == "sql-tool", rewrite=run.rewrite)


def _knowledge(task: Task, found: Examination) -> plan.Knowledge | None:
    if found.live is None or found.rehearsal is None:
        return None
    known = tables.read(task.place.conn, found.facts.schema or "")
    return plan.Knowledge(rehearsal=found.rehearsal, live=found.live.snapshot, tables=known)


def cannot_rehearse(task: Task, sight: Sight) -> PreflightFailed:
    """Return the refusal of what takes a rehearsal."""
    problem = preflight.cannot_rehearse(sight.facts, task.store.database)
    return PreflightFailed(f'role "{sight.facts.role}": {problem.found}', hint=problem.remedy)


def foresee(task: Task, sight: Sight) -> Foresight:
    """Plan, and measure what that costs; some seconds."""
    return _weighed(task, *checked_plan(task, sight))


def weigh_locks(task: Task, found: Examination, made: Plan) -> None:
    """Raise LockTooLong where a table would be locked for longer than it may; measured only where there is a limit."""
    if task.settings.run.max_lock_seconds is None:
        return
    reason = _weighed(task, found, made).refusal
    if reason:
        raise LockTooLong(reason, hint="let it run online (--rewrite online), or raise --max-lock-seconds")


def _weighed(task: Task, found: Examination, made: Plan) -> Foresight:
    outlook = measure.look_ahead(task.place.conn, task.place.source, made, _knowledge(task, found))
    limit = task.settings.run.max_lock_seconds
    return Foresight(plan=made, outlook=outlook, refusal=estimate.refusal(made, outlook, limit) if limit else "")

"""A store's plan, made with all that is known and checked; what it costs, and whether that is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator import conditions, database, estimate, examine, measure, plan, preflight, shadow, tables, traces
from schema_migrator.errors import LockTooLong, MigratorError, PreflightFailed
from schema_migrator.state import Unknown

if TYPE_CHECKING:
    from schema_migrator.examine import Examination
    from schema_migrator.outlook import Outlook
    from schema_migrator.plan import Plan
    from schema_migrator.settings import Settings
    from schema_migrator.state import Sight
    from schema_migrator.tasks import Task
    from schema_migrator.traces import Leftover


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What `migrate` would do to one store, what that costs, and why it refuses (empty: it does not).

    `begun` are the rewrites that earlier runs have left unfinished; `obstacle` is what keeps an online one from
    beginning just now (empty: nothing); `free`: bytes on the server's disk, None where it does not tell.
    """

    plan: Plan
    outlook: Outlook
    refusal: str = ""
    begun: tuple[Begun, ...] = ()
    obstacle: str = ""
    free: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An unfinished online rewrite with the rows that it has copied, and whether it is carried on with."""

    leftover: Leftover
    copied: int
    continues: bool


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
    found, made = checked_plan(task, sight)
    outlook, limit = _measured(task, found, made), task.settings.run.max_lock_seconds
    begun = tuple(_begun(task, made, one) for one in made.leftovers if one.unfinished)
    free, obstacle = _circumstances(task, made) if not any(one.continues for one in begun) else (None, "")
    return Foresight(
        plan=made,
        outlook=outlook,
        refusal=estimate.refusal(made, outlook, limit) if limit else "",
        begun=begun,
        obstacle=obstacle,
        free=free,
    )


def weigh_locks(task: Task, found: Examination, made: Plan, weighed: Plan | None = None) -> None:
    """Raise LockTooLong where a table would be locked for longer than it may; measured only where there is a limit.

    What runs the same way as in a plan that was weighed before is not measured again.
    """
    limit = task.settings.run.max_lock_seconds
    if limit is None or (weighed is not None and _ways(made) == _ways(weighed)):
        return
    reason = estimate.refusal(made, _measured(task, found, made), limit)
    if reason:
        online = made.online is not None and made.online.declined
        way = "let it run online (--rewrite online)" if online else "see what schema-migrator plan says of it"
        raise LockTooLong(reason, hint=f"{way}, or raise --max-lock-seconds")


def _measured(task: Task, found: Examination, made: Plan) -> Outlook:
    return measure.look_ahead(task.place.conn, task.place.source, made, _knowledge(task, found))


def _ways(made: Plan) -> list[object]:
    return [(one.step.version, one.statements, one.concurrently, one.online) for one in made.steps]


def _begun(task: Task, made: Plan, one: Leftover) -> Begun:
    conn, shape = task.place.conn, made.online.shape if made.online else None
    with database.transaction(conn, made.schema, database.LOOK, name=database.APPLICATION):
        live = shadow.look(conn, made.schema, shape) if shape else None
        continues = live is not None and shadow.continues(conn, live, one)
        return Begun(leftover=one, copied=traces.copied(conn, one), continues=continues)


def _circumstances(task: Task, made: Plan) -> tuple[int | None, str]:
    """Return the free disk and what would keep the plan's online rewrite from beginning now."""
    if made.online is None or made.online.shape is None:
        return None, ""
    found = conditions.look(task.place.conn)
    try:
        conditions.judge(made.online, found)
    except MigratorError as error:
        return found.free, str(error)
    return found.free, ""

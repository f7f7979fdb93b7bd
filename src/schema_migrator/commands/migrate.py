"""The command `migrate`: brings every store to its target, stage by stage.

The planning stage, which `plan` shares, is in `planning`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.commands import backup, drift
from schema_migrator.commands.planning import checked_plan, enforce_lock_limit, planned, refuse_blind, with_forecast
from schema_migrator.commands.rewrite import CutoverRequest
from schema_migrator.commands.store_tasks import StoreTask, each, looks, patiently, tasks, working
from schema_migrator.commands.verify import judge_store
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.state import Absent
from schema_migrator.errors import MigratorError
from schema_migrator.execution import concurrent_indexes, vendor_tool
from schema_migrator.execution.executor import executor_of
from schema_migrator.online import cleanup, holding
from schema_migrator.planning import notices
from schema_migrator.releases.source import UNVERSIONED
from schema_migrator.runs import failover, point_of_return, readback

if TYPE_CHECKING:
    from datetime import datetime

    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.examine import Examination
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.diagnosis.verdict import Verdict
    from schema_migrator.execution.native import Outcome
    from schema_migrator.planning.plan import Plan
    from schema_migrator.runs.context import RunContext
    from schema_migrator.runs.point_of_return import PointOfReturn


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What a run did to one store: steps applied, indexes rebuilt, and the verdict if the result was compared.

    `point`: where the server was before, None if nothing was changed. `backup`: when the newest backup was finished,
    None if no backup was required.
    """

    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    seconds: float = 0.0
    verdict: Verdict | None = None
    rebuilt: tuple[str, ...] = ()
    whose: Ownership = UNSEEN
    point: PointOfReturn | None = None
    backup: datetime | None = None


def migrate(settings: Settings, interrupt: Interrupt) -> tuple[Migration, ...]:
    """Bring every store to its target. All stores are examined before the first one is changed."""
    vendor_tool.check(settings)
    with tasks(settings, interrupt, changing=True, accepted=settings.accepted) as by_store:
        overviews = looks(by_store)
        checked = each(by_store, lambda task: planned(task, overviews[task.store.store]))
        if settings.run.on_drift == "fail":
            each(by_store, lambda task: drift.check(task, checked[task.store.store][0]))
        each(by_store, lambda task: enforce_lock_limit(task, *checked[task.store.store]))
        each(by_store, lambda task: refuse_blind(task, checked[task.store.store][1]))
        each(by_store, lambda task: holding.assert_zone(task.place.conn, task.settings.run))
        saved = backup.assert_fresh(settings.run, [made for _, made in checked.values()])
        done = each(by_store, lambda task: _reported(task, *checked[task.store.store])).values()
        return tuple(replace(migration, backup=saved) for migration in done)


def set_up(settings: Settings, interrupt: Interrupt) -> bool:
    """Write version 0.0 into empty stores, as the vendor's setup-schema does; return whether any store was empty."""
    with tasks(settings, interrupt) as by_store:
        overviews = looks(by_store)
        return any(each(by_store, lambda task: _set_up(task, overviews[task.store.store])).values())


def _set_up(task: StoreTask, overview: Overview) -> bool:
    if not isinstance(overview.state, Absent):
        return False
    empty = replace(task, target=UNVERSIONED)
    return bool(_migrate(empty, *checked_plan(empty, overview)).plan.setup)


def _reported(task: StoreTask, seen: Examination, first: Plan) -> Migration:
    """Migrate a store. If it fails, say so now: another store may wait for days for its cutover."""
    try:
        return _migrate(task, seen, first)
    except MigratorError as error:
        if holding.holds(task.settings.run):
            events.logger().error("store.failed", reason=str(error))
        raise


def _migrate(task: StoreTask, seen: Examination, first: Plan) -> Migration:
    """Do the work under the lock, from a new overview: another run may have done it while we waited."""
    started = time.monotonic()
    _log_plan(first)
    if not first.changes:
        return _nothing_to_do(first, seen.overview.whose)
    with working(task, CutoverRequest.of(task, first).ask) as work:
        found, made = patiently(task, lambda: checked_plan(task, examine.look(task.place), first))
        named = drift.check(task, found)
        _warn_of_undone(made)
        returns = made.changes and not made.fresh  # an empty database has nothing to go back to
        point = point_of_return.record(task.place.conn, found.facts.role) if returns else None
        cleanup.clear(work, made)
        rebuilt = _rebuild_invalid(work, made)
        enforce_lock_limit(task, found, made, first)
        made = with_forecast(task, found, made)
        outcomes = executor_of(made).run(work, made)
        verdict = patiently(task, partial(_prove, task, found, made))
    if verdict is not None:
        drift.report(task, verdict, named)
    patience = task.settings.run.wait_timeout
    patiently(task, lambda: failover.assert_recorded(task.store, task.interrupt, made, patience=patience))
    seconds = time.monotonic() - started
    whose = found.overview.whose if made.together else patiently(task, lambda: examine.look(task.place)).whose
    _warn(whose)
    return Migration(
        plan=made, outcomes=outcomes, seconds=seconds, verdict=verdict, rebuilt=rebuilt, whose=whose, point=point
    )


def _log_plan(plan: Plan) -> None:
    version = None if plan.recorded is None else str(plan.recorded)
    events.logger().debug("store.planned", version=version, target=str(plan.target), steps=len(plan.steps))


def _nothing_to_do(plan: Plan, whose: Ownership) -> Migration:
    version, target = str(plan.version), str(plan.target)
    if plan.ahead:
        action = "nothing: servers accept a newer version"
        events.logger().warning("schema.ahead", version=version, target=target, action=action)
    else:
        events.logger().info("schema.at_target", version=version)
    _warn(whose)
    return Migration(plan=plan, whose=whose)


def _warn(whose: Ownership) -> None:
    for notice in notices.standing(whose):
        events.logger().warning(notice.event, found=notice.found, remedy=notice.remedy)


def _warn_of_undone(made: Plan) -> None:
    for said in made.undoes:
        events.logger().warning("schema.acceptance_undone", reason=said)


def _rebuild_invalid(work: RunContext, made: Plan) -> tuple[str, ...]:
    """Rebuild the vendor's invalid indexes, and drop what interrupted rebuilds left; return the names of all."""
    if made.rebuild:
        again = [name for name in made.rebuild if name not in made.dropped]
        concurrent_indexes.rebuild_indexes(work, made.schema, again, made.dropped)
    return made.rebuild


def _prove(task: StoreTask, found: Examination, made: Plan) -> Verdict | None:
    """Return the comparison of the schema with a rehearsal of the target, or None.

    Without the right to rehearse, an installation is read back instead. A set-up alone, and a run that has nothing to
    do or has --no-verify, is not compared.
    """
    if task.settings.run.no_verify or made.empty or made.target == UNVERSIONED:
        return None
    if made.together and not found.facts.may_rehearse:
        readback.assert_installed(task.place, made)
        return None
    version = made.version if made.ahead and made.version else made.target
    return judge_store(task, examine.again(task.place, found, version), version)

"""The commands: each a column of calls named for the stages."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from schema_migrator import events
from schema_migrator.catalog import leftovers
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.catalog.state import Absent, At
from schema_migrator.commands import drift, store_status
from schema_migrator.commands.planning import (
    PlanPreview,
    cannot_rehearse,
    checked_plan,
    enforce_lock_limit,
    preview,
    refuse_blind,
    with_forecast,
)
from schema_migrator.commands.store_tasks import StoreTask, each, looks, patiently, tasks
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.verdict import compared, judge
from schema_migrator.errors import PreflightFailed, UnknownState
from schema_migrator.execution import concurrent_indexes, native, vendor_tool
from schema_migrator.online import cleanup
from schema_migrator.planning import notices
from schema_migrator.postgres import transactions
from schema_migrator.releases.source import UNVERSIONED, Release, Store, carried, load_release, release_with
from schema_migrator.runs import advisory_lock, readback
from schema_migrator.runs.context import RunContext

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.catalog.state import Overview
    from schema_migrator.commands.store_status import StoreStatus
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.examine import Examination
    from schema_migrator.diagnosis.verdict import Verdict
    from schema_migrator.execution.native import Outcome
    from schema_migrator.planning.plan import Plan

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What a run did to one store, the indexes that it rebuilt, and the proof of it where one was asked for."""

    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    seconds: float = 0.0
    verdict: Verdict | None = None
    rebuilt: tuple[str, ...] = ()
    whose: Ownership = UNSEEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What online rewrites had left in a store, and is gone."""

    store: Store
    database: str
    removed: tuple[Leftover, ...]


def migrate(settings: Settings, interrupt: Interrupt) -> tuple[Migration, ...]:
    """Bring every store to its target; all are looked at before the first is touched."""
    vendor_tool.check(settings)
    with tasks(settings, interrupt, changing=True) as those:
        sights = looks(those)
        checked = each(those, lambda task: _planned(task, sights[task.store.store]))
        if settings.run.on_drift == "fail":
            each(those, lambda task: drift.check(task, checked[task.store.store][0]))
        each(those, lambda task: enforce_lock_limit(task, *checked[task.store.store]))
        each(those, lambda task: refuse_blind(task, checked[task.store.store][1]))
        return tuple(each(those, lambda task: _migrate(task, *checked[task.store.store])).values())


def abandon(settings: Settings, interrupt: Interrupt) -> tuple[Removal, ...]:
    """Remove what online rewrites have left, also what was to be kept."""
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: _abandon(task, sights[task.store.store])).values())


def show_plan(settings: Settings, interrupt: Interrupt) -> tuple[PlanPreview, ...]:
    """Return what `migrate` would do, and what that takes; nothing is changed."""
    with tasks(settings, interrupt, changing=True) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: _preview(task, sights[task.store.store])).values())


def status(settings: Settings, interrupt: Interrupt) -> tuple[StoreStatus, ...]:
    """Return where every store is."""
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: _status(task, sights[task.store.store])).values())


def verify(settings: Settings, interrupt: Interrupt) -> tuple[Verdict, ...]:
    """Compare every store with the rehearsal of its version: the recorded one, or a higher target asked for."""
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: _verify(task, sights[task.store.store])).values())


def set_up(settings: Settings, interrupt: Interrupt) -> bool:
    """Write version 0.0 into stores that are empty, as the vendor's setup-schema does; return whether any was."""
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        return any(each(those, lambda task: _set_up(task, sights[task.store.store])).values())


def describe(settings: Settings, interrupt: Interrupt) -> dict[Store, Version | None]:
    """Return what is recorded, and no more than that."""
    with tasks(settings, interrupt) as those:
        return {store: overview.recorded for store, overview in looks(those).items()}


def releases(settings: Settings) -> tuple[Release, ...]:
    """Return the releases whose files are there."""
    return tuple(load_release(settings.run.sources, name) for name in carried(settings.run.sources))


def _abandon(task: StoreTask, overview: Overview) -> Removal:
    schema = overview.facts.schema or ""
    removed: tuple[Leftover, ...] = ()
    if overview.whose.leftovers:
        with _working(task) as work:
            removed = cleanup.abandon(work, schema, kept=True)
    if not removed:
        notices.refuse_unsettled(overview.whose.foreign_schemas)
        _refuse_unseen(task, overview)
    return Removal(store=task.store.store, database=task.store.database, removed=removed)


def _steadily(
    task: StoreTask,
    overview: Overview,
    decide: Callable[[StoreTask, Overview], _Found],
    doubted: Callable[[_Found], bool],
) -> _Found:
    """Decide from a sight of a store that others may lock, or move on, meanwhile."""
    return patiently(task, lambda: examine.examine_steadily(task.place, overview, partial(decide, task), doubted))


def _planned(task: StoreTask, overview: Overview) -> tuple[Examination, Plan]:
    return _steadily(task, overview, checked_plan, lambda planned: not examine.at_rest(planned[0].state))


def _status(task: StoreTask, overview: Overview) -> StoreStatus:
    """Look closer; what seems half done may only be on its way from one version to another."""
    return _steadily(task, overview, store_status.look, lambda status: not examine.at_rest(status.state))


def _refuse_unseen(task: StoreTask, overview: Overview) -> None:
    """Raise PreflightFailed where no store is to be seen, but something that a rewrite has left."""
    if overview.facts.versioned:
        return
    with transactions.look(task.place.conn):
        left = leftovers.of_ours(task.place.conn)
    if left:
        raise PreflightFailed(
            f'the role "{overview.facts.role}" finds no tables of the store, but what a rewrite has left: '
            f"{', '.join(left)}",
            hint="GRANT USAGE on the store's schema to it, or name the schema: search_path in SQL_CONNECT_ATTRIBUTES",
        )


def _preview(task: StoreTask, overview: Overview) -> PlanPreview:
    found, made = _planned(task, overview)
    drift.check(task, found)
    return preview(task, found, made)


def _verify(task: StoreTask, overview: Overview) -> Verdict:
    return _steadily(task, overview, _compared, lambda verdict: not verdict.equal)


def _compared(task: StoreTask, overview: Overview) -> Verdict:
    version = compared(overview.recorded, task.target, asked=task.store.target_version is not None)
    if version is None:
        raise UnknownState(
            f'database "{task.store.database}" has no recorded version to compare with',
            hint=f"run schema-migrator migrate, or name a version: --{task.store.store}-target-version",
        )
    task = _holding(task, version)
    if not overview.facts.may_rehearse:
        raise cannot_rehearse(task, overview)
    found = examine.in_full(task.place, overview, version)
    if isinstance(found.state, At) and found.state.release and version == found.state.version:
        release = load_release(task.settings.run.sources, found.state.release)
        return _compared(replace(task, place=replace(task.place, release=release)), overview)
    return replace(_judge(task, found, version), whose=overview.whose)


def _holding(task: StoreTask, version: Version) -> StoreTask:
    """Return the task with a release that has a version: after a rollback the given one does not have the newer one."""
    if version in task.place.source.versions:
        return task
    sources = task.settings.run.sources
    release = release_with(sources, task.store.store, version)
    if release is None:
        raise UnknownState(
            f'version {version} is recorded for "{task.store.database}", and no release whose files are here has it '
            f"({', '.join(carried(sources))})",
            hint="take a newer schema-migrator, or its image, that has the files of the release which made it",
        )
    return replace(task, place=replace(task.place, release=release))


def _set_up(task: StoreTask, overview: Overview) -> bool:
    if not isinstance(overview.state, Absent):
        return False
    empty = replace(task, target=UNVERSIONED)
    return bool(_migrate(empty, *checked_plan(empty, overview)).plan.setup)


def _judge(task: StoreTask, found: Examination, version: Version) -> Verdict:
    return judge(task.store.database, task.place.source, found, version, task.target)


def _migrate(task: StoreTask, seen: Examination, first: Plan) -> Migration:
    """Do the work under the lock, from a new look: another run may have done it while we waited."""
    started = time.monotonic()
    if first.empty and all(one.kept for one in first.leftovers):
        _log_nothing_to_do(first)
        _tell(seen.overview.whose)
        return Migration(plan=first, whose=seen.overview.whose)
    run = task.settings.run
    with _working(task) as work:
        found, made = patiently(task, lambda: checked_plan(task, examine.look(task.place), first))
        named = drift.check(task, found)
        cleanup.clear(work, made)
        rebuilt = _rebuild_invalid(work, made)
        if rebuilt:
            found, made = patiently(task, lambda: checked_plan(task, examine.look(task.place)))
        enforce_lock_limit(task, found, made, first)
        made = with_forecast(task, found, made)
        outcomes = (vendor_tool if made.by_tool else native).run(work, made)
        proven = not (run.no_verify or made.empty or made.target == UNVERSIONED)
        verdict = patiently(task, partial(_prove, task, found, made)) if proven else None
    if verdict is not None:
        drift.report(task, verdict, named)
    seconds = time.monotonic() - started
    whose = found.overview.whose if made.together else patiently(task, lambda: examine.look(task.place)).whose
    _tell(whose)
    return Migration(plan=made, outcomes=outcomes, seconds=seconds, verdict=verdict, rebuilt=rebuilt, whose=whose)


def _tell(whose: Ownership) -> None:
    for one in notices.standing(whose):
        events.logger().warning(one.event, found=one.found, remedy=one.remedy)


@contextmanager
def _working(task: StoreTask) -> Iterator[RunContext]:
    """Hold the advisory lock, and give what a run works with."""
    run, name = task.settings.run, secrets.token_hex(4)
    times = {"patience": run.lock_timeout, "wait": run.wait_timeout, "heartbeat": run.heartbeat}
    held = advisory_lock.hold(task.store, task.interrupt, run=name, **times)
    with held as mine:
        yield _work(task, mine)


def _rebuild_invalid(work: RunContext, made: Plan) -> tuple[str, ...]:
    """Rebuild the vendor's indexes that are invalid, and drop what interrupted rebuilds left; return their names."""
    if made.rebuild:
        again = [name for name in made.rebuild if name not in made.dropped]
        concurrent_indexes.rebuild_indexes(work, made.schema, again, made.dropped)
    return made.rebuild


def _prove(task: StoreTask, found: Examination, made: Plan) -> Verdict | None:
    """Compare what is there now with the rehearsal of the target, or read an installation back; None: no comparison."""
    if made.together and not found.facts.may_rehearse:
        readback.assert_installed(task.place, made)
        return None
    version = made.version if made.ahead and made.version else made.target
    return _judge(task, examine.again(task.place, found, version), version)


def _work(task: StoreTask, held: advisory_lock.Lock) -> RunContext:
    return RunContext(
        conn=task.place.conn,
        release=task.place.release,
        settings=task.settings,
        store=task.store,
        lock=held,
        interrupt=task.interrupt,
    )


def _log_nothing_to_do(found: Plan) -> None:
    log = events.logger()
    version, target = str(found.version), str(found.target)
    if found.ahead:
        log.warning("schema.ahead", version=version, target=target, action="nothing: servers ask for at least theirs")
    else:
        log.info("schema.at_target", version=version)

"""The commands: each a column of calls named for the stages."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schema_migrator import autocommit, examine, execute, lock, logs, notices, online, sqltool, traces
from schema_migrator.errors import NotAsRehearsed, UnknownState
from schema_migrator.foresight import Foresight, cannot_rehearse, checked_plan, foresee, weigh_locks
from schema_migrator.owners import UNSEEN
from schema_migrator.source import UNVERSIONED, Release, Store, carried, load_release
from schema_migrator.state import Absent, At, Between
from schema_migrator.tasks import Task, each, looks, tasks
from schema_migrator.verify import judge, unlisted
from schema_migrator.work import Work

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.examine import Examination
    from schema_migrator.execute import Outcome
    from schema_migrator.owners import Whose
    from schema_migrator.plan import Plan
    from schema_migrator.settings import Settings
    from schema_migrator.state import Sight, State
    from schema_migrator.traces import Leftover
    from schema_migrator.verify import Verdict
    from schema_migrator.workers import Interrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """Where a store is, and where it is to be.

    `unlisted`: see verify.Verdict; an unfinished online rewrite has `copied` rows; `elsewhere`: schemas where tables of
    the store are too, where nothing says which is meant.
    """

    store: Store
    database: str
    target: Version
    state: State
    unlisted: tuple[Version, ...] = ()
    whose: Whose = UNSEEN
    copied: int = 0
    elsewhere: str = ""

    @property
    def up_to_date(self) -> bool:
        """Whether the store is at its target or above it."""
        return isinstance(self.state, At) and self.state.version >= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What a run did to one store, and the proof of it where one was asked for."""

    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    seconds: float = 0.0
    verdict: Verdict | None = None
    whose: Whose = UNSEEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What online rewrites had left in a store, and is gone."""

    store: Store
    database: str
    removed: tuple[Leftover, ...]


def migrate(settings: Settings, interrupt: Interrupt) -> tuple[Migration, ...]:
    """Bring every store to its target; all are looked at before the first is touched."""
    sqltool.check(settings.run)
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        checked = each(those, lambda task: checked_plan(task, sights[task.store.store]))
        if settings.run.on_drift == "fail":
            each(those, lambda task: _weigh_drift(task, checked[task.store.store][0]))
        each(those, lambda task: weigh_locks(task, *checked[task.store.store]))
        return tuple(each(those, lambda task: _migrate(task, *checked[task.store.store])).values())


def abandon(settings: Settings, interrupt: Interrupt) -> tuple[Removal, ...]:
    """Remove what online rewrites have left, also what was to be kept."""
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: _abandon(task, sights[task.store.store])).values())


def show_plan(settings: Settings, interrupt: Interrupt) -> tuple[Foresight, ...]:
    """Return what `migrate` would do, and what that takes; nothing is changed."""
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: foresee(task, sights[task.store.store])).values())


def status(settings: Settings, interrupt: Interrupt) -> tuple[StoreStatus, ...]:
    """Return where every store is."""
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: _status(task, sights[task.store.store])).values())


def verify(settings: Settings, interrupt: Interrupt) -> tuple[Verdict, ...]:
    """Compare every store with the rehearsal of its version: the recorded one, or the target asked for."""
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
        return {store: sight.recorded for store, sight in looks(those).items()}


def releases(settings: Settings) -> tuple[Release, ...]:
    """Return the releases whose files are there."""
    return tuple(load_release(settings.run.sources, name) for name in carried(settings.run.sources))


def _abandon(task: Task, sight: Sight) -> Removal:
    schema = sight.facts.schema or ""
    removed: tuple[Leftover, ...] = ()
    if sight.whose.leftovers:
        with _working(task) as work:
            removed = online.abandon(work, schema, kept=True)
    if not removed:
        notices.refuse_unsettled(sight.whose.strangers)
    return Removal(store=task.store.store, database=task.store.database, removed=removed)


def _status(task: Task, sight: Sight) -> StoreStatus:
    found = examine.examine(task.place, sight, task.target)
    listed = examine.read_history(task.place.conn, sight)
    reached = found.state.version if isinstance(found.state, At) else None
    return StoreStatus(
        store=task.store.store,
        database=task.store.database,
        target=task.target,
        state=found.state,
        unlisted=unlisted(task.place.source.versions, listed, reached) if reached else (),
        whose=sight.whose,
        copied=sum(traces.copied(task.place.conn, one) for one in sight.whose.leftovers if one.unfinished),
        elsewhere=notices.elsewhere(sight),
    )


def _verify(task: Task, sight: Sight) -> Verdict:
    version = task.target if task.store.target_version else sight.recorded
    if version not in task.place.source.versions:
        raise UnknownState(
            f'no version of "{task.store.database}" is recorded to compare with'
            if version is None
            else f"version {version} is recorded, which release {task.place.release.version} does not have",
            hint="name one by DEFAULT_TARGET_VERSION or VISIBILITY_TARGET_VERSION",
        )
    if not sight.facts.may_rehearse:
        raise cannot_rehearse(task, sight)
    found = examine.in_full(task.place, sight, version)
    if isinstance(found.state, At) and found.state.release and version == found.state.version:
        release = load_release(task.settings.run.sources, found.state.release)
        return _verify(replace(task, place=replace(task.place, release=release)), sight)
    return replace(_judge(task, found, version), whose=sight.whose)


def _set_up(task: Task, sight: Sight) -> bool:
    if not isinstance(sight.state, Absent):
        return False
    empty = replace(task, target=UNVERSIONED)
    return bool(_migrate(empty, *checked_plan(empty, sight)).plan.setup)


def _judge(task: Task, found: Examination, version: Version) -> Verdict:
    assert found.live is not None  # noqa: S101 - a full examination has both
    assert found.rehearsal is not None  # noqa: S101
    return judge(task.store, task.place.source, version, found.live, found.rehearsal)


def _weigh_drift(task: Task, found: Examination) -> None:
    """Say, or refuse, what was changed by hand before we came; an invalid index is not, and is built again."""
    state = found.state
    if found.live is None or found.rehearsal is None or not isinstance(state, At | Between):
        return
    if isinstance(state, At) and state.release:  # recognised whole
        return
    healed = replace(found, live=replace(found.live, snapshot=found.live.snapshot.validated()))
    verdict = _judge(task, healed, state.version or UNVERSIONED)
    begun = found.rehearsal.touched(state.step) if isinstance(state, Between) else ()
    _report_drift(task, verdict.outside(begun))


def _report_drift(task: Task, verdict: Verdict) -> None:
    changes = [*verdict.difference.missing, *verdict.difference.different]
    for change in changes:
        logs.logger().warning("schema.drift", object=str(change.key), expected=change.expected, found=change.found)
    for change in verdict.difference.extra:
        logs.logger().info("schema.extra", object=str(change.key), found=change.found)
    if changes and task.settings.run.on_drift == "fail":
        raise NotAsRehearsed(
            f'{len(changes)} objects of "{verdict.database}" differ from version {verdict.version}: '
            + ", ".join(str(change.key) for change in changes[:5]),
            hint="repair them as schema-migrator verify says, or take --on-drift warn",
        )


def _migrate(task: Task, seen: Examination, first: Plan) -> Migration:
    """Do the work under the lock, from a new look: another run may have done it while we waited."""
    started = time.monotonic()
    if first.empty and all(one.kept for one in first.leftovers):
        _log_nothing_to_do(first)
        _tell(seen.sight.whose)
        return Migration(plan=first, whose=seen.sight.whose)
    run = task.settings.run
    with _working(task) as work:
        found, made = checked_plan(task, examine.look(task.place), first)
        online.clear(work, made)
        _weigh_drift(task, found)
        if _rebuild_invalid(work, found):
            found, made = checked_plan(task, examine.look(task.place))
        weigh_locks(task, found, made, first)
        outcomes = (sqltool if made.by_tool else execute).run(work, made)
        proven = not (run.no_verify or made.empty or made.target == UNVERSIONED)
        verdict = _prove(task, found, made) if proven else None
    seconds, whose = time.monotonic() - started, examine.look(task.place).whose
    _tell(whose)
    return Migration(plan=made, outcomes=outcomes, seconds=seconds, verdict=verdict, whose=whose)


def _tell(whose: Whose) -> None:
    for one in notices.standing(whose):
        logs.logger().warning(one.event, found=one.found, remedy=one.remedy)


@contextmanager
def _working(task: Task) -> Iterator[Work]:
    """Hold the advisory lock, and give what a run works with."""
    run, name = task.settings.run, secrets.token_hex(4)
    times = {"patience": run.lock_timeout, "wait": run.wait_timeout, "heartbeat": run.heartbeat}
    held = lock.hold(task.store, task.interrupt, run=name, **times)
    with held as mine:
        yield _work(task, mine)


def _rebuild_invalid(work: Work, found: Examination) -> bool:
    """Build again the vendor's indexes that are invalid; return whether there were any."""
    if found.live is None or found.rehearsal is None:
        return False
    broken = sorted(key.name for key in found.live.snapshot.invalid)
    known = {key.name for key in found.rehearsal.known if key.kind == "index"}
    ours = [name for name in broken if name in known]
    leftovers = [name for name in broken if re.sub(r"_cc(new|old)\d*$", "", name) in known - {name}]
    if ours or leftovers:
        autocommit.rebuild_indexes(work, found.facts.schema or "", ours, leftovers)
    return bool(ours or leftovers)


def _prove(task: Task, found: Examination, made: Plan) -> Verdict:
    """Compare what is there now with the rehearsal of the target."""
    version = made.version if made.ahead and made.version else made.target
    verdict = _judge(task, examine.again(task.place, found, version), version)
    _report_drift(task, verdict)
    return verdict


def _work(task: Task, held: lock.Lock) -> Work:
    return Work(
        conn=task.place.conn,
        release=task.place.release,
        settings=task.settings,
        store=task.store,
        lock=held,
        interrupt=task.interrupt,
    )


def _log_nothing_to_do(found: Plan) -> None:
    log = logs.logger()
    version, target = str(found.version), str(found.target)
    if found.ahead:
        log.warning("schema.ahead", version=version, target=target, action="nothing: servers ask for at least theirs")
    else:
        log.info("schema.at_target", version=version)

"""The command `verify`: compares every store with a rehearsal of its version."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.commands import rehearsal_servers
from schema_migrator.commands.planning import cannot_rehearse
from schema_migrator.commands.store_tasks import StoreTask, each, looks, steadily, tasks
from schema_migrator.config.rehearsal_place import FLAG
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.state import At
from schema_migrator.diagnosis.verdict import compared, judge
from schema_migrator.errors import UnknownState
from schema_migrator.releases.library import span

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.commands.rehearsal_servers import EmbeddedServer
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.examine import Examination
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.diagnosis.verdict import Verdict


def verify(settings: Settings, interrupt: Interrupt, embedded: EmbeddedServer | None = None) -> tuple[Verdict, ...]:
    """Return the comparison of every store with its recorded version, or with a higher target if one is set.

    `embedded` starts the embedded PostgreSQL, if rehearsals are to run on it. Raises SettingsError before anything is
    contacted if the accepted differences cannot be read.
    """
    with (
        rehearsal_servers.opened(settings, interrupt, embedded) as stages,
        tasks(settings, interrupt, accepted=settings.accepted, stages=stages) as by_store,
    ):
        overviews = looks(by_store)
        return tuple(each(by_store, lambda task: _verify(task, overviews[task.store.store])).values())


def _verify(task: StoreTask, overview: Overview) -> Verdict:
    return steadily(task, overview, _compared, lambda verdict: not verdict.equal)


def _compared(task: StoreTask, overview: Overview) -> Verdict:
    version = compared(overview.recorded, task.target, asked=task.store.target_version is not None)
    if version is None:
        raise UnknownState(
            f'database "{task.store.database}" has no recorded version to compare with',
            hint=f"run schema-migrator migrate, or name a version: --{task.store.store}-target-version",
        )
    task = _holding(task, version)
    if not task.place.may_rehearse(overview.facts):
        error = cannot_rehearse(task, overview)
        error.hint = f"{error.hint.removesuffix(';')}; or rehearse on another server: {FLAG}"
        raise error
    found = examine.in_full(task.place, overview, version)
    if isinstance(found.state, At) and found.state.release and version == found.state.version:
        release = task.settings.library.release(found.state.release)
        return _compared(replace(task, place=replace(task.place, release=release)), overview)
    rehearsed = task.place.stage.seen if task.place.stage else None
    verdict = judge_store(task, found, version)
    return replace(verdict, whose=overview.whose, rehearsed=rehearsed, standby=overview.standby)


def _holding(task: StoreTask, version: Version) -> StoreTask:
    """Return the task with a release that has the version: after a rollback, the configured release may not have it.

    Raises UnknownState if no available release has it.
    """
    if version in task.place.source.versions:
        return task
    library = task.settings.library
    release = library.release_with(task.store.store, version)
    if release is None:
        raise UnknownState(
            f'version {version} is recorded for "{task.store.database}", and no available release has it '
            f"({span(library.versions())})",
            hint="use a newer schema-migrator, or its image, with the files of the release that created it",
        )
    return replace(task, place=replace(task.place, release=release))


def judge_store(task: StoreTask, found: Examination, version: Version) -> Verdict:
    """Return, and log, the comparison of an examined store with the rehearsal of a version."""
    verdict = judge(task.subject, found, version)
    events.logger().debug(
        "schema.compared",
        version=str(version),
        recorded=None if found.overview.recorded is None else str(found.overview.recorded),
        target=str(task.target),
        equal=verdict.equal,
        missing=len(verdict.difference.missing),
        different=len(verdict.difference.different),
        extra=len(verdict.difference.extra),
    )
    return verdict

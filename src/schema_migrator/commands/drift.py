"""Drift: manual changes to a store, each reported once, or refused before anything is changed (`--on-drift fail`).

How drift is found is in `diagnosis`; its repair is printed by `verify`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.catalog.snapshot import Snapshot
from schema_migrator.commands.planning import cannot_rehearse
from schema_migrator.diagnosis import examine, prediction
from schema_migrator.diagnosis.state import At, Between
from schema_migrator.diagnosis.verdict import judge
from schema_migrator.errors import NotAsRehearsed, UnknownState
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.snapshot import Change, Key
    from schema_migrator.commands.store_tasks import StoreTask
    from schema_migrator.diagnosis.examine import Examination, StoreHandle
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.diagnosis.verdict import Verdict

_NAMED = 5


def check(task: StoreTask, found: Examination) -> frozenset[Key]:
    """Report manual changes from before this run, and return their keys. An invalid index is not drift; it is rebuilt.

    Raises NotAsRehearsed with `--on-drift fail`. In that case a store at its target is examined in full, too; otherwise
    its version row is enough.
    """
    examined = _looked(task, found)
    if examined is None or examined.live is None or examined.rehearsal is None:
        return frozenset()
    state = examined.state
    if not isinstance(state, At | Between) or (isinstance(state, At) and state.release):  # it matches another release
        return frozenset()
    healed = replace(examined.live, snapshot=examined.live.snapshot.validated())
    expected = _expected(examined.rehearsal, state, healed.snapshot)
    seen = replace(examined, live=healed, rehearsal=expected)
    version = state.version or UNVERSIONED
    return report(task, judge(task.store.database, task.place.source, seen, version, task.target))


def report(task: StoreTask, verdict: Verdict, named: frozenset[Key] = frozenset()) -> frozenset[Key]:
    """Report the changes that were not named before, and return the keys of all.

    Raises NotAsRehearsed with `--on-drift fail`, unless all changes are extra objects.
    """
    changes = [*verdict.difference.missing, *verdict.difference.different]
    for change in _new(changes, named):
        events.logger().warning("schema.drift", object=str(change.key), expected=change.expected, found=change.found)
    for change in _new(verdict.difference.extra, named):
        events.logger().info("schema.extra_object", object=str(change.key), found=change.found)
    if changes and task.settings.run.on_drift == "fail":
        count = "1 object" if len(changes) == 1 else f"{len(changes)} objects"
        raise NotAsRehearsed(
            f'{count} of "{verdict.database}" {"differs" if len(changes) == 1 else "differ"} from version'
            f" {verdict.version}: {', '.join(str(change.key) for change in changes[:_NAMED])}"
            + (", ..." if len(changes) > _NAMED else ""),
            hint=f"for the SQL that repairs them: schema-migrator verify --{verdict.store}-target-version"
            f" {verdict.version}; or use --on-drift warn",
        )
    return frozenset(change.key for change in (*changes, *verdict.difference.extra))


def _new(changes: list[Change] | tuple[Change, ...], named: frozenset[Key]) -> list[Change]:
    return [change for change in changes if change.key not in named]


def _looked(task: StoreTask, found: Examination) -> Examination | None:
    """Return a full examination if there is one or one is needed, None if the version row is enough.

    Raises PreflightFailed if one is needed and the role may not rehearse.
    """
    state = found.state
    if found.live is not None or task.settings.run.on_drift != "fail":
        return found
    if not isinstance(state, At | Between) or state.version in (None, UNVERSIONED):
        return None
    if not found.facts.may_rehearse:
        raise cannot_rehearse(task, found.overview)
    place = _place(task, state.version)
    examined = examine.in_full(place, found.overview, task.target)
    other_release = isinstance(examined.state, At) and examined.state.release
    return examined if other_release else replace(examined, overview=found.overview)


def _place(task: StoreTask, version: Version | None) -> StoreHandle:
    """Return the place with a release that has the version: a store ahead of its target may be at a newer release's.

    Raises UnknownState if no available release has it.
    """
    place = task.place
    if version in place.source.versions:
        return place
    holding = None if version is None else place.library.release_with(task.store.store, version)
    if holding is None:
        raise UnknownState(
            f"version {version} is recorded, which no available release has, so manual changes cannot be detected",
            hint="use --on-drift warn, or a newer schema-migrator",
        )
    return replace(place, release=holding)


def _expected(rehearsal: Rehearsal, state: At | Between, live: Snapshot) -> Rehearsal:
    """Return the rehearsal with the recorded version as a half-applied step leaves it, without manual changes."""
    if isinstance(state, At):
        return rehearsal
    version, touched = state.version or UNVERSIONED, rehearsal.touched(state.step)
    reached = prediction.undrifted(rehearsal.within[state.step], live).only(touched)
    expected = Snapshot({**rehearsal.after[version].without(touched).objects, **reached.objects})
    return replace(rehearsal, after={**rehearsal.after, version: expected})

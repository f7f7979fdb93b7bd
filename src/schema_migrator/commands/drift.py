"""What was changed by hand: each change named once, or refused before anything is touched."""

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
from schema_migrator.releases.source import UNVERSIONED, carried, load_release

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.snapshot import Change, Key
    from schema_migrator.commands.store_tasks import StoreTask
    from schema_migrator.diagnosis.examine import Examination, StoreHandle
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.diagnosis.verdict import Verdict

_NAMED = 5


def check(task: StoreTask, found: Examination) -> frozenset[Key]:
    """Name what was changed by hand before we came, and return it; an invalid index is not, and is rebuilt.

    Raises NotAsRehearsed with `--on-drift fail`. Then a store at its target is looked at too, which else costs nothing.
    """
    looked = _looked(task, found)
    if looked is None or looked.live is None or looked.rehearsal is None:
        return frozenset()
    state = looked.state
    if not isinstance(state, At | Between) or (isinstance(state, At) and state.release):  # recognised whole
        return frozenset()
    healed = replace(looked.live, snapshot=looked.live.snapshot.validated())
    expected = _expected(looked.rehearsal, state, healed.snapshot)
    seen = replace(looked, live=healed, rehearsal=expected)
    version = state.version or UNVERSIONED
    return report(task, judge(task.store.database, task.place.source, seen, version, task.target))


def report(task: StoreTask, verdict: Verdict, named: frozenset[Key] = frozenset()) -> frozenset[Key]:
    """Name the changes that were not named before. Raises NotAsRehearsed with `--on-drift fail`, if there are any."""
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
    """Return a full look where one is there or needed, None where the version row alone is enough."""
    state = found.state
    if found.live is not None or task.settings.run.on_drift != "fail":
        return found
    if not isinstance(state, At | Between) or state.version in (None, UNVERSIONED):
        return None
    if not found.facts.may_rehearse:
        raise cannot_rehearse(task, found.overview)
    place = _place(task, state.version)
    looked = examine.in_full(place, found.overview, task.target)
    whole = isinstance(looked.state, At) and looked.state.release
    return looked if whole else replace(looked, overview=found.overview)


def _place(task: StoreTask, version: Version | None) -> StoreHandle:
    """Return the place with a release that has a version: a store ahead of its target may be at a newer one's."""
    place = task.place
    if version in place.source.versions:
        return place
    releases = (load_release(place.sources, name) for name in reversed(carried(place.sources)))
    found = next((one for one in releases if version in one.source(task.store.store).versions), None)
    if found is None:
        raise UnknownState(
            f"version {version} is recorded, which no available release has, so manual changes cannot be detected",
            hint="use --on-drift warn, or a newer schema-migrator",
        )
    return replace(place, release=found)


def _expected(rehearsal: Rehearsal, state: At | Between, live: Snapshot) -> Rehearsal:
    """Return the rehearsal with the recorded version as a begun step leaves it, whatever was changed by hand."""
    if isinstance(state, At):
        return rehearsal
    version, touched = state.version or UNVERSIONED, rehearsal.touched(state.step)
    reached = prediction.undrifted(rehearsal.within[state.step], live).only(touched)
    expected = Snapshot({**rehearsal.after[version].without(touched).objects, **reached.objects})
    return replace(rehearsal, after={**rehearsal.after, version: expected})

"""Drift: manual changes to a store, each reported once, or refused before anything is changed (`--on-drift fail`).

How drift is found is in `diagnosis`; its repair is printed by `verify`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.commands.planning import cannot_rehearse
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.state import At, Between
from schema_migrator.diagnosis.verdict import judge_state
from schema_migrator.errors import NotAsRehearsed, UnknownState
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.snapshot import Change
    from schema_migrator.commands.store_tasks import StoreTask
    from schema_migrator.config.accepted import AcceptedDifference
    from schema_migrator.diagnosis.examine import Examination, StoreHandle
    from schema_migrator.diagnosis.verdict import Verdict

_NAMED = 5


def check(task: StoreTask, found: Examination) -> frozenset[str]:
    """Report manual changes from before this run; return what was named. An invalid index is not drift; it is rebuilt.

    Raises NotAsRehearsed with `--on-drift fail`. In that case a store at its target is examined in full, too; otherwise
    its version row is enough.
    """
    examined = _looked(task, found)
    verdict = judge_state(task.subject, examined) if examined else None
    return report(task, verdict) if verdict else frozenset()


def report(task: StoreTask, verdict: Verdict, named: frozenset[str] = frozenset()) -> frozenset[str]:
    """Report the changes and entries that were not `named` before, and return the names of all.

    Raises NotAsRehearsed with `--on-drift fail`, unless all changes are accepted or extra objects.
    """
    changes = [*verdict.difference.missing, *verdict.difference.different]
    for change in _new(changes, named):
        events.logger().warning("schema.drift", object=str(change.key), expected=change.expected, found=change.found)
    for change in _new(verdict.difference.extra, named):
        events.logger().info("schema.extra_object", object=str(change.key), found=change.found)
    entries = _report_entries(verdict, named)
    if changes and task.settings.run.on_drift == "fail":
        count = "1 object" if len(changes) == 1 else f"{len(changes)} objects"
        raise NotAsRehearsed(
            f'{count} of "{verdict.database}" {"differs" if len(changes) == 1 else "differ"} from version'
            f" {verdict.version}: {', '.join(str(change.key) for change in changes[:_NAMED])}"
            + (", ..." if len(changes) > _NAMED else ""),
            hint=f"for the SQL that repairs them: schema-migrator verify --{verdict.store}-target-version"
            f" {verdict.version}; or accept them (--accepted), or use --on-drift warn",
        )
    return entries | {str(change.key) for change in (*changes, *verdict.difference.extra)}


def _report_entries(verdict: Verdict, named: frozenset[str]) -> frozenset[str]:
    """Report what is accepted and which entries accept nothing, unless named before; return the names of all.

    Before its target a store may not have an entry's object yet, which is no news.
    """
    unused = [
        found for found in verdict.unused if not found.absent or found.expired or verdict.version >= verdict.target
    ]
    for accepted in verdict.accepted:
        entry = accepted.entry
        if _named(entry, accepted=True) not in named:
            events.logger().info("schema.accepted", object=entry.object, accept=str(entry.accept), reason=entry.reason)
    for found in unused:
        if _named(found.entry, accepted=False) not in named:
            events.logger().warning("schema.acceptance_unused", object=found.entry.object, reason=found.why)
    names = [_named(accepted.entry, accepted=True) for accepted in verdict.accepted]
    return frozenset([*names, *(_named(found.entry, accepted=False) for found in unused)])


def _named(entry: AcceptedDifference, *, accepted: bool) -> str:
    return f"{'accepted' if accepted else 'unused'} {entry.object}"


def _new(changes: list[Change] | tuple[Change, ...], named: frozenset[str]) -> list[Change]:
    return [change for change in changes if str(change.key) not in named]


def _looked(task: StoreTask, found: Examination) -> Examination | None:
    """Return a full examination if there is one or one is needed, None if the version row is enough.

    Raises PreflightFailed if one is needed and the role may not rehearse.
    """
    state = found.state
    if found.live is not None or task.settings.run.on_drift != "fail":
        return found
    if not isinstance(state, At | Between) or state.version in (None, UNVERSIONED):
        return None
    if not task.place.may_rehearse(found.facts):
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

"""Recognises the state of a store by comparing its live snapshot with rehearsed ones. Pure functions.

The version row says where to look, and the snapshot says how far the store has come. Manual changes do not count if no
statement of the next step changes the same part. The candidates are, in this order: the recorded version and the
prefixes of its next step; any complete version, of this release and then of the others; the same without the order of
columns, and then apart from accepted differences; a step whose statements were applied out of order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import tee
from typing import TYPE_CHECKING

from schema_migrator.catalog import seed_row, snapshot
from schema_migrator.catalog.snapshot import Key
from schema_migrator.diagnosis import acceptance, out_of_order, prediction
from schema_migrator.diagnosis.acceptance import NOTHING, Acceptance
from schema_migrator.diagnosis.rehearsal import unknown_objects
from schema_migrator.diagnosis.state import Absent, At, Between, Unknown, Unrecorded
from schema_migrator.releases.source import UNVERSIONED, parse_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packaging.version import Version

    from schema_migrator.catalog.seed_row import Seed
    from schema_migrator.catalog.snapshot import Change, Snapshot
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.diagnosis.state import Overview, State
    from schema_migrator.releases.source import Source, Step

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything from which a state is recognised.

    In `live`, invalid indexes count as built, because the program rebuilds them before any step runs. `history` are the
    versions that schema_update_history lists.
    """

    source: Source
    overview: Overview
    live: Snapshot
    seed: Seed
    rehearsal: Rehearsal
    history: frozenset[Version] = frozenset()
    acceptance: Acceptance = NOTHING

    @property
    def recorded(self) -> Version:
        """The recorded version; 0.0 without a row."""
        return self.overview.recorded or UNVERSIONED

    def unordered(self) -> Evidence:
        """Return the evidence without the order of columns, on which no statement depends."""
        return replace(self, live=self.live.unordered(), rehearsal=self.rehearsal.unordered())


def pending(source: Source, recorded: Version, target: Version) -> list[Step]:
    """Return the steps with statements, from the one after `recorded` to the target.

    An interrupted run can have stopped in the first of them. That step is returned even if it is beyond the target.
    """
    steps = [step for step in source.steps if step.version > recorded and step.statements]
    return [step for step in steps if step.version <= target] or steps[:1]


def recognise(evidence: Evidence, others: Iterable[Rehearsal] = ()) -> State:
    """Return the store's state. `others` yields the rehearsals of other releases; they run only if they are needed."""
    step = next(iter(pending(evidence.source, evidence.recorded, evidence.recorded)), None)
    if step is not None and (_in_use(evidence) or not _credible(evidence, step)):
        step = None
    first, again = tee(others)  # a rehearsal takes a second
    state = _recognise(evidence, step, first)
    if state is None:
        state = _recognise(evidence.unordered(), step, (other.unordered() for other in again))
    if state is None and evidence.acceptance.valid:
        state = _apart_from_accepted(evidence.unordered(), step)
    if state is None and step is not None:
        state = _out_of_order(evidence, step)
    return state or _unknown(evidence)


def _apart_from_accepted(evidence: Evidence, step: Step | None) -> State | None:
    """Return the state of a store whose accepted differences count as a version has these objects."""
    versions, recorded = evidence.rehearsal.after, evidence.overview.recorded
    lives = acceptance.restored(versions, recorded, evidence.live, evidence.acceptance)
    states = (_recognise(replace(evidence, live=live), step, ()) for live in lives)
    return next((state for state in states if state is not None), None)


def _in_use(evidence: Evidence) -> bool:
    """Return whether a cluster has used a store without a recorded version: no installation has just begun there."""
    return evidence.recorded == UNVERSIONED and evidence.seed.used is not None


def _credible(evidence: Evidence, step: Step) -> bool:
    """Return whether, in the objects that the next step does not touch, no version is closer than the recorded one.

    If another version is closer, the version row is ahead of the tables or behind them, and the objects that the step
    touches prove nothing.
    """
    rehearsal = evidence.rehearsal
    if evidence.recorded not in rehearsal.after:
        return False
    touched = rehearsal.touched(step.version)
    # The tables as well: one that is missing would count as a single difference for all its parts.
    touched |= {Key("table", "", table) for key in touched if (table := snapshot.table_of(key))}
    known, rest = rehearsal.known, evidence.live.without(touched)

    def off(version: Version) -> int:
        return len(_deviations(rehearsal.after[version].without(touched), rest, known))

    recorded = off(evidence.recorded)
    return recorded == 0 or recorded <= min(map(off, rehearsal.after))


def _recognise(evidence: Evidence, step: Step | None, others: Iterable[Rehearsal]) -> State | None:
    found = _prefix(evidence, step) if step else _recorded(evidence)
    return found or _whole(evidence, [evidence.rehearsal, *others])


def _recorded(evidence: Evidence) -> State | None:
    """Return the recorded version if the schema matches it completely; then no other release need be rehearsed."""
    after, known = evidence.rehearsal.after, evidence.rehearsal.known
    version = whole_version(evidence.rehearsal, evidence.live, known)
    return _at_recorded(evidence) if version and after[version] == after.get(evidence.recorded) else None


def _prefix(evidence: Evidence, step: Step) -> State | None:
    done = resume_point(evidence.rehearsal, step.version, evidence.recorded, evidence.live)
    if done is None:
        return None
    remaining = _with_seed(evidence, step, range(done, len(step.statements)))
    if done == 0 and len(remaining) == len(step.statements):
        return _at_recorded(evidence)
    return _between(evidence, step, remaining)


def resume_point(rehearsal: Rehearsal, version: Version, recorded: Version, live: Snapshot) -> int | None:
    """Return the smallest k for which the live schema looks as after k statements of the step to a version, or None.

    It compares only the objects that the step touches. If an object exists that only later steps create, it is None.
    """
    touched = rehearsal.touched(version)
    taken = rehearsal.within[version]
    later = later_keys(rehearsal, recorded, touched)
    if later.intersection(live.objects):
        return None
    here = prediction.undrifted(taken, live).only(touched)
    differences = (snapshot.compare(rehearsed.only(touched), here) for rehearsed in taken)
    return next((k for k, change in enumerate(differences) if change.equal and not change.extra), None)


def later_keys(rehearsal: Rehearsal, recorded: Version, touched: frozenset[Key]) -> frozenset[Key]:
    """Return the objects that only steps after the next one create; none of them is ever a user's own."""
    seen = rehearsal.after[recorded].objects.keys() | touched
    later = (after for version, taken in rehearsal.within.items() if version > recorded for after in taken)
    return frozenset(key for after in later for key in after.objects if key not in seen and key.kind != "order")


def _whole(evidence: Evidence, rehearsals: Sequence[Rehearsal]) -> State | None:
    """Return the state of a store that matches a version of any of the rehearsals completely, or None.

    An object that any of the releases has never counts as extra.
    """
    known = frozenset().union(*(rehearsal.known for rehearsal in rehearsals))
    for rehearsal in rehearsals:
        version = whole_version(rehearsal, evidence.live, known)
        if version is not None and version in evidence.source.versions:
            release = None if rehearsal is evidence.rehearsal else rehearsal.release
            listed = evidence.recorded in evidence.source.versions
            recorded = listed and rehearsal.after.get(evidence.recorded) == rehearsal.after[version]
            return _at_recorded(evidence, release) if recorded else _unrecorded(evidence, version, rehearsal)
    return None


def whole_version(rehearsal: Rehearsal, live: Snapshot, known: frozenset[Key]) -> Version | None:
    """Return the version whose snapshot the live schema equals, or None; of adjacent equal versions, the lowest."""
    versions = sorted((version for version in rehearsal.after if version > UNVERSIONED), reverse=True)
    vendors = {key for key in known if key.kind != "order"}
    found: Version | None = None
    for version in versions:
        expected = rehearsal.after[version]
        if found is not None and expected != rehearsal.after[found]:
            break
        foreign_schemas = vendors.intersection(live.objects) - expected.objects.keys()
        if found is not None or (not foreign_schemas and snapshot.compare(expected, live).equal):
            found = version
    return found


def _out_of_order(evidence: Evidence, step: Step) -> State | None:
    """Return the state in a step that two of the vendor's tools applied at the same time, or None if it is uncertain.

    Statements whose final effect already exists are left out. The result is compared before COMMIT.
    """
    rehearsal = evidence.rehearsal
    if later_keys(rehearsal, evidence.recorded, rehearsal.touched(step.version)).intersection(evidence.live.objects):
        return None
    taken = rehearsal.within[step.version]
    remaining = out_of_order.remaining(taken, prediction.undrifted(taken, evidence.live))
    if remaining is None or prediction.predict(rehearsal, [step], evidence.live, {step.version: remaining})[0].problems:
        return None
    return _between(evidence, step, _with_seed(evidence, step, remaining))


def _with_seed(evidence: Evidence, step: Step, remaining: Iterable[int]) -> tuple[int, ...]:
    """Return the indexes of the statements to run, with the seed's INSERT if and only if its row is missing.

    The snapshots cannot tell, because they do not show rows.
    """
    inserts = {index for index, statement in enumerate(step.statements) if seed_row.inserted_by(statement.text)}
    wanted = set() if evidence.seed.version is not None else inserts
    return tuple(sorted(set(remaining) - inserts | wanted))


def _at_recorded(evidence: Evidence, release: str | None = None) -> State:
    state = evidence.overview.state
    if isinstance(state, At):
        return replace(state, release=release)
    if isinstance(state, Absent):
        return state
    if evidence.overview.recorded is None:
        return Absent()
    row = next(row for row in evidence.overview.rows if parse_version(row.curr_version or "") == evidence.recorded)
    return At(version=evidence.recorded, min_compatible=parse_version(row.min_compatible_version or "") or UNVERSIONED)


def _between(evidence: Evidence, step: Step, remaining: tuple[int, ...]) -> State:
    return Between(
        version=evidence.overview.recorded, step=step.version, total=len(step.statements), remaining=remaining
    )


def _unrecorded(evidence: Evidence, version: Version, rehearsal: Rehearsal) -> Unrecorded:
    elsewhere = {parse_version(row.curr_version or "") for row in evidence.overview.rows}
    # If two of the vendor's tools run at once, the slower one sets the row back to its own version.
    put_back = UNVERSIONED < evidence.recorded < version and version in evidence.history
    moved = version in elsewhere and evidence.recorded == UNVERSIONED
    confirmed = put_back or moved or _only_unrecorded(evidence, version, rehearsal)
    return Unrecorded(version=version, recorded=evidence.overview.recorded, confirmed=confirmed)


def _only_unrecorded(evidence: Evidence, version: Version, rehearsal: Rehearsal) -> bool:
    """Whether another release's tool was killed after the last statement of the next step, before it recorded it.

    The tables cannot tell if that step changes rows: the tool may not have come that far.
    """
    if version in rehearsal.changing:
        return False
    before = max((known for known in rehearsal.after if known < version), default=UNVERSIONED)
    recorded = rehearsal.after.get(evidence.recorded)
    return UNVERSIONED < evidence.recorded < version and recorded == rehearsal.after[before]


def _unknown(evidence: Evidence) -> Unknown:
    state = evidence.overview.state
    version, changes = _nearest(evidence)
    named = ", ".join(str(change.key) for change in changes[:_NAMED]) + (", ..." if len(changes) > _NAMED else "")
    reason = state.reason if isinstance(state, Unknown) else f"version {evidence.recorded} is recorded"
    if _in_use(evidence):
        reason = f"{reason}; {evidence.seed.used}, so a cluster has used these tables; nothing was touched"
    strange = unknown_objects(evidence.rehearsal, evidence.live)
    if strange:
        reason = f"{reason}; tables of the same names that are not Temporal's: {', '.join(strange)}"
    return Unknown(
        reason=f"{reason}; the tables match no version; the closest is {version}, apart from: {named}",
        hint=_remedy(evidence, version),
        recorded=evidence.overview.recorded,
    )


def _remedy(evidence: Evidence, nearest: Version) -> str:
    """Return the hint with the command that shows the repair SQL, for a version not below the recorded one."""
    state, recorded = evidence.overview.state, evidence.recorded
    if isinstance(state, Unknown) and UNVERSIONED < recorded not in evidence.source.versions:
        return state.hint
    version = max(nearest, recorded)
    flag = f"--{evidence.source.store}-target-version {version}"
    return f"for the SQL that brings them to {version}: schema-migrator verify {flag}"


def _nearest(evidence: Evidence) -> tuple[Version, list[Change]]:
    """Return the version with the fewest differences, and the differences; of several, the highest version."""
    rehearsal = evidence.rehearsal
    known, versions = rehearsal.known, sorted(rehearsal.after, reverse=True)
    candidates = [(v, _deviations(rehearsal.after[v], evidence.live, known)) for v in versions if v > UNVERSIONED]
    return min(candidates, key=lambda candidate: len(candidate[1]))


def _deviations(expected: Snapshot, live: Snapshot, known: frozenset[Key]) -> list[Change]:
    """Return what is missing or different from a version, and the extra objects that only other versions have."""
    difference = snapshot.compare(expected, live)
    extra = (change for change in difference.extra if change.key in known)
    return [*difference.missing, *difference.different, *extra]

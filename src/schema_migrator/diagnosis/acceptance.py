"""Which differences the entries of a file accept, which entries accept nothing, and what a step would undo.

Pure functions, and the only place that decides about accepted differences (ADR 23).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from schema_migrator.catalog import seed_row, snapshot
from schema_migrator.catalog.snapshot import INVALID, Difference, Key, Snapshot
from schema_migrator.config.accepted import Accept, AcceptedDifference
from schema_migrator.diagnosis import required_objects
from schema_migrator.diagnosis.prediction import Problem
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.version import Version

    from schema_migrator.catalog.snapshot import Change
    from schema_migrator.diagnosis.prediction import Predicted
    from schema_migrator.releases.source import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The entries for one store, and the day for which they are asked."""

    entries: tuple[AcceptedDifference, ...]
    today: date

    @property
    def valid(self) -> tuple[AcceptedDifference, ...]:
        """The entries that have not expired."""
        return tuple(entry for entry in self.entries if not entry.expired(self.today))


NOTHING = Acceptance(entries=(), today=date.min)
"""No entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedChange:
    """A difference that an entry accepts."""

    change: Change
    entry: AcceptedDifference


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedEntry:
    """An entry that accepts nothing, and why in words.

    `expired`: its last day is over. `absent`: neither the version nor the database has its object.
    """

    entry: AcceptedDifference
    why: str
    expired: bool = False
    absent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """An accepted difference that a step would undo, and what the step does, in words."""

    entry: AcceptedDifference
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A live schema beside the `expected` one of a version, and how they differ."""

    version: Version
    expected: Snapshot
    live: Snapshot
    difference: Difference

    @property
    def changes(self) -> tuple[Change, ...]:
        """All differences, extra objects included."""
        return (*self.difference.missing, *self.difference.different, *self.difference.extra)

    @property
    def vital(self) -> frozenset[Key]:
        """What is missing or changed and Temporal cannot work without, which nothing accepts."""
        return required_objects.lost(self.expected, self.live) | {seed_row.KEY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The differences that are left, those that are accepted, and the entries that accept nothing."""

    difference: Difference
    accepted: tuple[AcceptedChange, ...] = ()
    unused: tuple[UnusedEntry, ...] = ()


def judge(compared: Compared, acceptance: Acceptance) -> Judged:
    """Return which of the differences are accepted. An index that is only invalid is compared with its accepted form.

    An entry that has expired accepts nothing, and neither does one for what Temporal cannot work without.
    """
    by_name = {str(change.key): change for change in compared.changes}
    vital = compared.vital
    accepted: list[AcceptedChange] = []
    unused: list[UnusedEntry] = []
    invalid: dict[Key, Change] = {}
    for entry in acceptance.entries:
        change = by_name.get(entry.object)
        if entry.expired(acceptance.today):
            unused.append(UnusedEntry(entry=entry, why=f"it applied until {entry.until}", expired=True))
        elif change is None:
            unused.append(_without_change(entry, compared))
        elif why := _why_not(entry, change, vital):
            unused.append(UnusedEntry(entry=entry, why=why))
            if _only_invalid(entry, change):
                invalid[change.key] = replace(change, expected=entry.definition)
        else:
            accepted.append(AcceptedChange(change=change, entry=entry))
    done = {found.change.key for found in accepted}
    return Judged(difference=_left(compared.difference, done, invalid), accepted=tuple(accepted), unused=tuple(unused))


def restored(
    versions: Mapping[Version, Snapshot], recorded: Version | None, live: Snapshot, acceptance: Acceptance
) -> Iterator[Snapshot]:
    """Yield a live schema with the accepted objects as a version has them: the recorded one, or each of `versions`.

    A version of which nothing is accepted is left out. Without a usable record the highest version comes first.
    """
    unknown = recorded not in versions or recorded == UNVERSIONED
    for version in (version for version in sorted(versions, reverse=True) if unknown or version == recorded):
        expected = versions[version]
        difference = snapshot.compare(expected, live)
        judged = judge(Compared(version=version, expected=expected, live=live, difference=difference), acceptance)
        if judged.accepted:
            yield _restored(live, [found.change for found in judged.accepted])


def _restored(live: Snapshot, changes: Sequence[Change]) -> Snapshot:
    lost = {change.key for change in changes if change.expected is None}
    gone = [key for key in live.objects if key in lost or Key("table", "", key.parent) in lost]
    theirs = {change.key: change.expected for change in changes if change.expected is not None}
    return Snapshot({**live.without(gone).objects, **theirs})


def kind(change: Change) -> Accept:
    """Return what an entry for a difference has to accept. An object that only other versions have is extra."""
    if change.found is None:
        return Accept.MISSING
    return Accept.EXTRA if change.expected is None else Accept.DIFFERENT


def _left(difference: Difference, accepted: Collection[Key], invalid: Mapping[Key, Change]) -> Difference:
    """Return the differences without the accepted ones; an invalid index is expected in its accepted form."""

    def left(changes: Iterable[Change]) -> tuple[Change, ...]:
        return tuple(invalid.get(change.key, change) for change in changes if change.key not in accepted)

    return Difference(
        missing=left(difference.missing), different=left(difference.different), extra=left(difference.extra)
    )


def _why_not(entry: AcceptedDifference, change: Change, vital: Collection[Key]) -> str:
    """Return why an entry does not accept a difference of its object; empty if it does."""
    found = kind(change)
    if change.key in vital:
        return "Temporal cannot work without the object as the version has it"
    if found is not entry.accept:
        return f"the object is {found}, and the entry accepts that it is {entry.accept}"
    if _only_invalid(entry, change):
        return "the index has the accepted definition, but it is invalid"
    if entry.definition not in (None, change.found):
        return f"the object has another definition by now: {change.found}"
    return ""


def _only_invalid(entry: AcceptedDifference, change: Change) -> bool:
    return change.found == f"{entry.definition}{INVALID}"


def _without_change(entry: AcceptedDifference, compared: Compared) -> UnusedEntry:
    """Return why an object has no difference of its own."""
    keys = (*compared.expected.objects, *compared.live.objects)
    key = next((key for key in keys if str(key) == entry.object), None)
    if key is None:
        why = f"neither version {compared.version} nor the database has the object"
        return UnusedEntry(entry=entry, why=why, absent=True)
    if any(change.key == Key("table", "", key.parent) for change in compared.changes):
        return UnusedEntry(entry=entry, why=f'the whole table "{key.parent}" is missing, different or extra')
    return UnusedEntry(entry=entry, why=f"the object is as version {compared.version} has it")


def undone(
    accepted: Sequence[AcceptedChange], steps: Sequence[Predicted], known: Collection[Key]
) -> tuple[Undone, ...]:
    """Return each accepted difference that a step would undo, with the first such step.

    `known` are the objects that the release has; what a step does to the user's own is checked elsewhere.
    """
    found = (_undone(each, steps) for each in accepted if each.change.key in known)
    return tuple(each for each in found if each is not None)


def refusals(found: Iterable[Undone]) -> tuple[Problem, ...]:
    """Return a problem for each accepted difference that is to be kept and that a step would undo."""
    remedy = "keep = false in its entry lets the step do that"
    return tuple(Problem(found=each.said, remedy=remedy) for each in found if each.entry.keep)


def _undone(accepted: AcceptedChange, steps: Sequence[Predicted]) -> Undone | None:
    key, entry = accepted.change.key, accepted.entry
    what = {Accept.MISSING: "absence", Accept.DIFFERENT: "definition", Accept.EXTRA: "existence"}[entry.accept]
    for step in steps:
        before, after = step.start.objects.get(key), step.end.objects.get(key)
        if before != after:
            said = f"step {step.version} {_does(before, after)} the {key}, whose {what} is accepted: {entry.reason}"
            return Undone(entry=entry, said=said)
    return None


def _does(before: str | None, after: str | None) -> str:
    if before is None:
        return "creates"
    return "drops" if after is None else "replaces"


def proposed(
    judged: Judged, vital: Collection[Key], store: Store, reason: str
) -> tuple[tuple[AcceptedDifference, ...], tuple[Change, ...]]:
    """Return entries that accept what is there now, and the differences that no entry can accept.

    Entries that apply stay as they are, and so do expired ones: their date was somebody's decision. What Temporal
    cannot work without is not accepted, and neither is an invalid index, which `migrate` rebuilds.
    """
    kept = [found.entry for found in judged.accepted]
    kept += [unused.entry for unused in judged.unused if unused.expired]
    names, difference = {entry.object for entry in kept}, judged.difference
    changes = (*difference.missing, *difference.different, *difference.extra)
    left = [change for change in changes if str(change.key) not in names]
    refused = tuple(change for change in left if change.key in vital or (change.found or "").endswith(INVALID))
    new = [_entry(change, store, reason) for change in left if change not in refused]
    return (*kept, *new), refused


def _entry(change: Change, store: Store, reason: str) -> AcceptedDifference:
    return AcceptedDifference(
        store=store, object=str(change.key), accept=kind(change), reason=reason, definition=change.found or None
    )

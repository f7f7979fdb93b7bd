"""Compares a live schema with the rehearsal of a version, and returns the verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schema_migrator.catalog import seed_row, snapshot
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.catalog.snapshot import RANK, Change, Difference, Key, Snapshot
from schema_migrator.diagnosis import acceptance, prediction
from schema_migrator.diagnosis.acceptance import AcceptedChange, Compared, UnusedEntry
from schema_migrator.diagnosis.state import At, Between
from schema_migrator.releases.source import UNVERSIONED, Store

if TYPE_CHECKING:
    from collections.abc import Collection

    from packaging.version import Version

    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.catalog.standby import Standby
    from schema_migrator.diagnosis.acceptance import Acceptance
    from schema_migrator.diagnosis.examine import Examination, LiveSchema
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.diagnosis.stage import Rehearsed
    from schema_migrator.releases.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a store's `schema` differs from a version. Extra objects are the user's own and are tolerated.

    `difference` leaves out what is `accepted`. `unused` are entries that accept nothing, and `vital` are the objects
    that no entry can accept. `unlisted` are versions that schema_update_history lacks: the vendor's tool writes the
    history after the version row, so a kill between the two leaves a version out. They are shown but are no reason to
    refuse. Only the command verify reads `whose`, the owners; `standby`, how far a standby has replayed; and
    `rehearsed`, the other server on which the version was rehearsed.
    """

    store: Store
    database: str
    schema: str
    version: Version
    target: Version
    difference: Difference
    unlisted: tuple[Version, ...]
    accepted: tuple[AcceptedChange, ...] = ()
    unused: tuple[UnusedEntry, ...] = ()
    vital: frozenset[Key] = frozenset()
    whose: Ownership = UNSEEN
    standby: Standby | None = None
    rehearsed: Rehearsed | None = None

    @property
    def equal(self) -> bool:
        """Whether the schema matches the version."""
        return self.difference.equal

    @property
    def ahead(self) -> bool:
        """Whether the version is above the target. A server accepts that: it requires at least its own version."""
        return self.version > self.target


def compared(recorded: Version | None, target: Version, *, asked: bool) -> Version | None:
    """Return the version to compare a schema with: the recorded one, or a higher target that the user `asked` for.

    A comparison with a lower version would report every object of the newer versions as wrong. None means that nothing
    is installed.
    """
    known = [version for version in (recorded, target if asked else None) if version not in (None, UNVERSIONED)]
    return max(filter(None, known), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The store that is judged: its files, its database, its target, and what is accepted of it."""

    source: Source
    database: str
    target: Version
    acceptance: Acceptance


def judge_state(subject: Subject, found: Examination) -> Verdict | None:
    """Return the verdict on the manual changes that a full look found; None if there is nothing to compare with.

    A half-applied step counts as it was rehearsed, and an invalid index as built. There is no verdict if the version
    row alone was enough, and on a schema that another release's files created.
    """
    state, live, rehearsal = found.state, found.live, found.rehearsal
    if live is None or rehearsal is None or not isinstance(state, At | Between):
        return None
    if isinstance(state, At) and state.release:
        return None
    healed = replace(live, snapshot=live.snapshot.validated())
    seen = replace(found, live=healed, rehearsal=_as_left(rehearsal, state, healed.snapshot))
    return judge(subject, seen, state.version or UNVERSIONED)


def _as_left(rehearsal: Rehearsal, state: At | Between, live: Snapshot) -> Rehearsal:
    """Return the rehearsal with the recorded version as a half-applied step leaves it, without manual changes."""
    if isinstance(state, At):
        return rehearsal
    version, touched = state.version or UNVERSIONED, rehearsal.touched(state.step)
    reached = prediction.undrifted(rehearsal.within[state.step], live).only(touched)
    expected = Snapshot({**rehearsal.after[version].without(touched).objects, **reached.objects})
    return replace(rehearsal, after={**rehearsal.after, version: expected})


def judge(subject: Subject, found: Examination, version: Version) -> Verdict:
    """Compare the result of a full look with the rehearsal of a version, and return the verdict."""
    live, rehearsal, source = found.live, found.rehearsal, subject.source
    assert live is not None  # noqa: S101 - a full look has both
    assert rehearsal is not None  # noqa: S101
    expected = rehearsal.after[version]
    difference = _with_parts(_without_strangers(snapshot.compare(expected, live.snapshot), rehearsal), expected, live)
    if source.store is Store.DEFAULT and live.seed.version is None:
        lost = Change(key=seed_row.KEY, expected=f"notification_version {seed_row.VERSION}", found=None)
        difference = replace(difference, missing=(*difference.missing, lost))
    compared = Compared(version=version, expected=expected, live=live.snapshot, difference=difference)
    judged = acceptance.judge(compared, subject.acceptance)
    return Verdict(
        store=source.store,
        database=subject.database,
        schema=found.facts.schema or "",
        version=version,
        target=subject.target,
        difference=judged.difference,
        unlisted=unlisted(source.versions, live.history, version),
        accepted=judged.accepted,
        unused=judged.unused,
        vital=compared.vital,
    )


def _with_parts(difference: Difference, expected: Snapshot, live: LiveSchema) -> Difference:
    """Return the difference with what must be created together, and names under which something may exist."""
    return replace(
        difference,
        missing=tuple(
            _with_renamed(replace(change, parts=_parts(change.key, expected)), difference.extra, live.snapshot)
            for change in difference.missing
        ),
        different=tuple(replace(change, parts=_parts(change.key, expected)) for change in difference.different),
    )


def _without_strangers(difference: Difference, rehearsal: Rehearsal) -> Difference:
    """Count extra objects that only other versions have as different: they are never the user's own."""
    known = rehearsal.known
    of_others = tuple(change for change in difference.extra if change.key in known)
    extra = tuple(change for change in difference.extra if change.key not in known)
    return replace(difference, different=(*difference.different, *of_others), extra=extra)


def _parts(key: Key, expected: Snapshot) -> tuple[Change, ...]:
    """Return the parts of a table, with the columns in their order, or the indexes that are dropped with a column."""
    order = expected.objects.get(Key("order", "", key.name), "").split(", ")
    mentioned = re.compile(rf"\b{re.escape(key.name)}\b")
    changes = [
        Change(key=part, expected=definition, found=None)
        for part, definition in sorted(expected.objects.items())
        if (key.kind == "table" and part.parent == key.name)
        or (
            key.kind == "column" and part.kind == "index" and part.parent == key.parent and mentioned.search(definition)
        )
    ]
    place = {name: number for number, name in enumerate(order)}
    return tuple(sorted(changes, key=lambda change: (RANK[change.key.kind], place.get(change.key.name, 0))))


def _with_renamed(missing: Change, extra: Collection[Change], live: Snapshot) -> Change:
    return replace(missing, renamed=_renamed(missing, extra, live))


def _renamed(missing: Change, extra: Collection[Change], live: Snapshot) -> tuple[str, ...]:
    """Return the names of extra objects that may be the missing one, renamed; a new object would lack their values.

    For a column these are columns of the same type, except for a computed column, which has no values of its own. For a
    table these are tables with all its columns. For an index it is the constraint that has its name.
    """
    key = missing.key
    if key.kind == "index":
        return tuple(change.key.name for change in extra if change.key == Key("constraint", key.parent, key.name))
    like = [change for change in extra if change.key.kind == key.kind]
    if key.kind == "column" and " GENERATED " not in (missing.expected or ""):
        kind = _bare(missing.expected)
        same = (change for change in like if change.key.parent == key.parent and _bare(change.found) == kind)
        return tuple(change.key.name for change in same)
    if key.kind == "table":
        columns = {part.key.name for part in missing.parts if part.key.kind == "column"}
        return tuple(change.key.name for change in like if columns and columns <= _columns(change.key.name, live))
    return ()


def _bare(column: str | None) -> str:
    return re.split(" NOT NULL| DEFAULT ", column or "")[0]


def _columns(table: str, live: Snapshot) -> set[str]:
    return {key.name for key in live.objects if key.kind == "column" and key.parent == table}


def unlisted(versions: Collection[Version], history: Collection[Version], reached: Version) -> tuple[Version, ...]:
    """Return the versions up to `reached` that the history does not list, in ascending order."""
    return tuple(version for version in sorted(versions) if version <= reached and version not in history)

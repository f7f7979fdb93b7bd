"""Compares a live schema with the rehearsal of a version, and returns the verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schema_migrator.catalog import seed_row, snapshot
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.catalog.snapshot import RANK, Change, Difference, Key
from schema_migrator.releases.source import UNVERSIONED, Store

if TYPE_CHECKING:
    from collections.abc import Collection

    from packaging.version import Version

    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.diagnosis.examine import Examination
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.releases.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a store's `schema` differs from a version. Extra objects are the user's own and are tolerated.

    `unlisted` are versions that schema_update_history lacks: the vendor's tool writes the history after the version
    row, so a kill between the two leaves a version out. They are shown but are no reason to refuse. `whose` are the
    owners, which only the command verify reads.
    """

    store: Store
    database: str
    schema: str
    version: Version
    target: Version
    difference: Difference
    unlisted: tuple[Version, ...]
    whose: Ownership = UNSEEN

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


def judge(database: str, source: Source, found: Examination, version: Version, target: Version) -> Verdict:
    """Compare the result of a full look with the rehearsal of a version, and return the verdict."""
    live, rehearsal = found.live, found.rehearsal
    assert live is not None  # noqa: S101 - a full look has both
    assert rehearsal is not None  # noqa: S101
    expected = rehearsal.after[version]
    difference = _without_strangers(snapshot.compare(expected, live.snapshot), rehearsal)
    difference = replace(
        difference,
        missing=tuple(
            _with_renamed(replace(change, parts=_parts(change.key, expected)), difference.extra, live.snapshot)
            for change in difference.missing
        ),
        different=tuple(replace(change, parts=_parts(change.key, expected)) for change in difference.different),
    )
    if source.store is Store.DEFAULT and live.seed.version is None:
        lost = Change(key=seed_row.KEY, expected=f"notification_version {seed_row.VERSION}", found=None)
        difference = replace(difference, missing=(*difference.missing, lost))
    return Verdict(
        store=source.store,
        database=database,
        schema=found.facts.schema or "",
        version=version,
        target=target,
        difference=difference,
        unlisted=unlisted(source.versions, live.history, version),
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

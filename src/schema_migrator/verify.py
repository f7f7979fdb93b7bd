"""The proof: a live schema against the rehearsal of its version, and the SQL that repairs it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schema_migrator import seed, snapshot
from schema_migrator.owners import UNSEEN
from schema_migrator.snapshot import RANK, Change, Difference, Key
from schema_migrator.source import Store

if TYPE_CHECKING:
    from collections.abc import Collection

    from packaging.version import Version

    from schema_migrator.examine import Live
    from schema_migrator.owners import Whose
    from schema_migrator.rehearsal import Rehearsal
    from schema_migrator.settings import StoreSettings
    from schema_migrator.snapshot import Snapshot
    from schema_migrator.source import Source

_COLUMN = re.compile(
    r"(?P<type>.+?)(?P<not_null> NOT NULL)?(?: DEFAULT (?P<default>.+?))?(?P<generated> GENERATED .+?)?( /\*.*)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a store differs from what its version looks like; extras are the user's own and tolerated.

    `unlisted` are versions that schema_update_history lacks: the vendor's tool writes it after the
    version row, so a kill between the two leaves it out. It is shown and no reason to refuse. `whose`: asked for by
    the command verify alone.
    """

    store: Store
    database: str
    version: Version
    difference: Difference
    unlisted: tuple[Version, ...]
    whose: Whose = UNSEEN

    @property
    def equal(self) -> bool:
        """Whether everything is there as it has to be."""
        return self.difference.equal

    def outside(self, keys: Collection[Key]) -> Verdict:
        """Return the verdict on all but some objects."""
        parts = (self.difference.missing, self.difference.different, self.difference.extra)
        missing, different, extra = (tuple(one for one in part if one.key not in keys) for part in parts)
        return replace(self, difference=Difference(missing=missing, different=different, extra=extra))


def judge(settings: StoreSettings, source: Source, version: Version, live: Live, rehearsal: Rehearsal) -> Verdict:
    """Compare a live schema with the rehearsal of a version."""
    expected = rehearsal.after[version]
    difference = _without_strangers(snapshot.compare(expected, live.snapshot), rehearsal)
    difference = replace(
        difference,
        missing=tuple(replace(one, parts=_parts(one.key, expected)) for one in difference.missing),
        different=tuple(replace(one, parts=_parts(one.key, expected)) for one in difference.different),
    )
    if source.store is Store.DEFAULT and live.seed.version is None:
        lost = Change(key=seed.KEY, expected=f"notification_version {seed.VERSION}", found=None)
        difference = replace(difference, missing=(*difference.missing, lost))
    return Verdict(
        store=source.store,
        database=settings.database,
        version=version,
        difference=difference,
        unlisted=unlisted(source.versions, live.history, version),
    )


def _without_strangers(difference: Difference, rehearsal: Rehearsal) -> Difference:
    """Count what only other versions know as different: it is never the user's own."""
    known = rehearsal.known
    strangers = tuple(one for one in difference.extra if one.key in known)
    extra = tuple(one for one in difference.extra if one.key not in known)
    return replace(difference, different=(*difference.different, *strangers), extra=extra)


def _parts(key: Key, expected: Snapshot) -> tuple[Change, ...]:
    """Return what a table has, columns in their order, or the indexes that would go with a column."""
    order = expected.objects.get(Key("order", "", key.name), "").split(", ")
    mentioned = re.compile(rf"\b{re.escape(key.name)}\b")
    found = [
        Change(key=part, expected=definition, found=None)
        for part, definition in sorted(expected.objects.items())
        if (key.kind == "table" and part.parent == key.name)
        or (
            key.kind == "column" and part.kind == "index" and part.parent == key.parent and mentioned.search(definition)
        )
    ]
    place = {name: number for number, name in enumerate(order)}
    return tuple(sorted(found, key=lambda one: (RANK[one.key.kind], place.get(one.key.name, 0))))


def unlisted(versions: Collection[Version], history: Collection[Version], reached: Version) -> tuple[Version, ...]:
    """Return the versions up to the reached one that the history does not list."""
    return tuple(version for version in sorted(versions) if version <= reached and version not in history)


def repair(change: Change) -> str:
    """Return the SQL that makes what is missing or different as expected."""
    if change.expected is None:
        return _drop(change) if change.key.kind != "column" else f"-- look whether it may go, then: {_drop(change)}"
    if change.key.kind == "row":
        return seed.REPAIR
    create, drop = _create(change), _drop(change)
    return create if change.found is None else _alter(change, create, drop)


def _create(change: Change) -> str:
    kind, parent, name = change.key
    table, quoted = _quoted(parent), _quoted(name)
    ways = {
        "index": f"{change.expected};",
        "column": f"ALTER TABLE {table} ADD COLUMN {quoted} {change.expected};",
        "constraint": f"ALTER TABLE {table} ADD CONSTRAINT {quoted} {change.expected};",
        "function": f"CREATE OR REPLACE FUNCTION {name} {change.expected};",
        "extension": f"CREATE EXTENSION {quoted};",
    }
    if kind == "table":
        return _create_table(change)
    return ways.get(kind, f"-- {change.key}: create it as the vendor's files do")


def _create_table(change: Change) -> str:
    columns = [f"{_quoted(one.key.name)} {one.expected}" for one in change.parts if one.key.kind == "column"]
    others = [_create(one) for one in change.parts if one.key.kind != "column"]
    return " ".join([f"CREATE TABLE {_quoted(change.key.name)} ({', '.join(columns)});", *others])


def _drop(change: Change) -> str:
    kind, parent, name = change.key
    match kind:
        case "index":
            return f"DROP INDEX {_quoted(name)};"
        case "column" | "constraint":
            return f"ALTER TABLE {_quoted(parent)} DROP {kind.upper()} {_quoted(name)};"
        case "table":
            return f"-- look whether it may go, then: DROP TABLE {_quoted(name)};"
        case _:
            return f"-- {change.key}: drop it if it may go"


def _alter(change: Change, create: str, drop: str) -> str:
    if (change.found or "").removesuffix(" /* INVALID */") == change.expected:
        return f"REINDEX INDEX CONCURRENTLY {_quoted(change.key.name)};"
    match change.key.kind:
        case "column":
            return _alter_column(change) or " ".join([drop, create, *_indexes_again(change)])
        case "order":
            return "-- the columns stand in another order, which only a new table would change"
        case "table":
            return _alter_table(change)
        case "function":
            return create
        case _:
            return f"{drop} {create}"


def _indexes_again(change: Change) -> list[str]:
    """Return what makes the indexes again that go with a column."""
    indexes = (one.expected or "" for one in change.parts)
    return [definition.replace(" INDEX ", " INDEX IF NOT EXISTS ", 1) + ";" for definition in indexes]


def _alter_table(change: Change) -> str:
    ways = {"UNLOGGED": "SET LOGGED", "ROW LEVEL SECURITY": "DISABLE ROW LEVEL SECURITY"}
    parts = [way for word, way in ways.items() if word in (change.found or "")]
    if "PARTITIONED" in (change.found or "") or not parts:
        return "-- the table is of another kind, which only a new table would change"
    return f"ALTER TABLE {_quoted(change.key.name)} {', '.join(parts)};"


def _alter_column(change: Change) -> str:
    """Return the ALTER TABLE, or nothing where the column must be dropped and added again."""
    wanted, found = (_COLUMN.fullmatch(text or "") for text in (change.expected, change.found))
    if wanted is None or found is None or change.found != _plain(change):
        return ""
    if wanted["generated"] not in (None, found["generated"]):
        return ""
    column = f"ALTER COLUMN {_quoted(change.key.name)}"
    parts = []
    if wanted["generated"] != found["generated"]:
        parts.append(f"{column} DROP {'IDENTITY' if 'IDENTITY' in found['generated'] else 'EXPRESSION'}")
    if wanted["type"] != found["type"]:
        parts.append(f"{column} TYPE {wanted['type']}")
    if wanted["default"] != found["default"]:
        parts.append(f"{column} SET DEFAULT {wanted['default']}" if wanted["default"] else f"{column} DROP DEFAULT")
    if wanted["not_null"] != found["not_null"]:
        parts.append(f"{column} {'SET' if wanted['not_null'] else 'DROP'} NOT NULL")
    return f"ALTER TABLE {_quoted(change.key.parent)} {', '.join(parts)};"


def _plain(change: Change) -> str:
    return re.sub(r" /\* uses .*", "", change.found or "")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_$]*", name) else '"' + name.replace('"', '""') + '"'

"""The states of a store, and the state that its version row and a few facts from the catalogs show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from packaging.version import Version

from schema_migrator.catalog.facts import Facts, VersionRow, read_facts, read_rows
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.config import selection
from schema_migrator.errors import WrongStore
from schema_migrator.releases.source import UNVERSIONED, parse_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.catalog.standby import Standby
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Release, Source

_APART = "give each store its own database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """No version is recorded, and no table of the store exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """The store is at its recorded version; 0.0 if only the set-up has run.

    `release` is another release, if it is the one whose files create the tables as they are: releases can differ under
    the same version.
    """

    version: Version
    min_compatible: Version
    release: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """The store is in the middle of a step. `remaining` are the indexes of its statements that still have to run.

    `version` is the recorded version, None without a row. `step` is the step's version, `total` its statements' number.
    """

    version: Version | None
    step: Version
    total: int
    remaining: tuple[int, ...]

    @property
    def done(self) -> int:
        """The number of the step's statements that need not run."""
        return self.total - len(self.remaining)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecorded:
    """The tables match one version, but another version or none is recorded.

    `confirmed`: a row with another db_name records that version (the database was renamed or restored), or the history
    lists it (two of the vendor's tools ran at once), or it is the next version as another release's files create it
    (its tool was killed before it recorded the version).
    """

    version: Version
    recorded: Version | None
    confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A state without explanation, and the reason. `refinable`: the tables may tell more than the version row."""

    reason: str
    hint: str
    recorded: Version | None = None
    refinable: bool = False


State: TypeAlias = Absent | At | Between | Unrecorded | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The result of one look at a database. `recorded` is the version in the configured database's own row.

    `whose` are the owners, and `standby` is how far a standby has replayed; only examine.look reads them.
    """

    facts: Facts
    rows: tuple[VersionRow, ...]
    recorded: Version | None
    state: State
    whose: Ownership = UNSEEN
    standby: Standby | None = None


def look(
    conn: Connection, release: Release, settings: StoreSettings, path: Sequence[str], *, lock: bool = False
) -> Overview:
    """Read a store's state, in a transaction. With `lock` the version rows stay locked until the transaction ends.

    The schema is the first one in `path` that exists, as PostgreSQL chooses it. Without a path it is the first one in
    the role's own search_path. A failed read raises psycopg's error; it never counts as an absent version.
    """
    facts = read_facts(conn, release.source(settings.store), path)
    rows = read_rows(conn, facts, lock=lock) if facts.versioned else ()
    own = next((row for row in rows if row.db_name == settings.database), None)
    recorded = parse_version(own.curr_version or "") if own else None
    return Overview(facts=facts, rows=rows, recorded=recorded, state=recognise(release, settings, facts, rows))


def recognise(release: Release, settings: StoreSettings, facts: Facts, rows: tuple[VersionRow, ...]) -> State:
    """Return the state of a store as far as its version row shows it; snapshots may tell more.

    Raises WrongStore if the database contains tables of other files.
    """
    if facts.schema is None:
        return Unknown(
            reason="no schema of the search_path exists for the role",
            hint="create one, GRANT USAGE on it, or name it by search_path in SQL_CONNECT_ATTRIBUTES",
        )
    source = release.source(settings.store)
    present = source.tables.intersection(facts.tables)
    _refuse_other_store(release.source(settings.store.opposite), settings, facts, shared=bool(present))
    row = next((row for row in rows if row.db_name == settings.database), None)
    if row is None:
        return _unrecorded(settings, rows, present) if present else Absent()
    version, lowest = parse_version(row.curr_version or ""), parse_version(row.min_compatible_version or "")
    if version is None or lowest is None:
        return Unknown(
            reason=f'schema_version records "{row.curr_version}", at least "{row.min_compatible_version}"',
            hint="expected two versions such as 1.9 and 0.1: find out who wrote that row",
        )
    return _recorded(source, present, version, lowest)


def _refuse_other_store(other: Source, settings: StoreSettings, facts: Facts, *, shared: bool) -> None:
    strange = sorted(other.tables.intersection(facts.tables))
    if not strange:
        return
    raise WrongStore(
        f'database "{settings.database}" has a table of the {other.store} store, "{strange[0]}",'
        f" {'beside those of' if shared else 'expected'} the {settings.store} store",
        hint=_APART if shared else f"swap {selection.databases(sorted((other.store, settings.store)))}",
    )


def _unrecorded(settings: StoreSettings, rows: tuple[VersionRow, ...], present: frozenset[str]) -> Unknown:
    others = ", ".join(f'"{row.db_name}" at {row.curr_version}' for row in rows)
    return Unknown(
        reason=f'{len(present)} tables of the store are there, but no version of "{settings.database}"'
        + (f" (only for {others})" if others else ""),
        hint="was the database renamed, restored, or left by an interrupted set-up?",
        refinable=True,
    )


def _recorded(source: Source, present: frozenset[str], version: Version, lowest: Version) -> State:
    if version == UNVERSIONED and present:
        return Unknown(
            reason=f"version 0.0 is recorded, but {len(present)} tables of the store are there",
            hint="an earlier migration was interrupted",
            recorded=version,
            refinable=True,
        )
    if version > UNVERSIONED and not present:
        return Unknown(
            reason=f"version {version} is recorded, but none of the store's tables is there",
            hint="are the tables in another schema (search_path), or was the database emptied?",
            recorded=version,
        )
    if UNVERSIONED < version < source.latest and version not in source.versions:
        return Unknown(
            reason=f"version {version} is recorded, which release {source.release} does not have",
            hint="set TEMPORAL_VERSION to the release that created it, or to a newer one",
            recorded=version,
            refinable=True,
        )
    return At(version=version, min_compatible=lowest)

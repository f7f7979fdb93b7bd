"""Examines a store: its rows and, if there is something to decide, snapshots and a rehearsal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from schema_migrator.catalog import owners, plain_rows, seed_row, snapshot, standby
from schema_migrator.diagnosis import recognition, rehearsal, state
from schema_migrator.diagnosis.acceptance import NOTHING, Acceptance
from schema_migrator.diagnosis.state import Absent, At, Unknown, Unrecorded
from schema_migrator.errors import RefusedError, WrongStore
from schema_migrator.postgres import transactions
from schema_migrator.releases.source import UNVERSIONED, parse_version

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.facts import Facts
    from schema_migrator.catalog.seed_row import Seed
    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.diagnosis.stage import Stage
    from schema_migrator.diagnosis.state import Overview, State
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.library import Library
    from schema_migrator.releases.source import Release, Source

_Found = TypeVar("_Found")
_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHandle:
    """Everything that a look at a store needs.

    `path` is the search_path, if one is given. `library` has all available releases. `acceptance`: the differences
    that are accepted of the store. `stage`: another server for rehearsals; nothing is then written to the store's.
    """

    conn: Connection
    store: StoreSettings
    release: Release
    library: Library
    path: tuple[str, ...]
    acceptance: Acceptance = NOTHING
    stage: Stage | None = None

    def may_rehearse(self, facts: Facts) -> bool:
        """Whether the store can be rehearsed: on another server, or in a scratch schema beside it."""
        return self.stage is not None or facts.may_rehearse

    @property
    def source(self) -> Source:
        """The store's steps."""
        return self.release.source(self.store.store)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSchema:
    """The live schema: its snapshot, the seed row, and the versions that the history records."""

    snapshot: Snapshot
    seed: Seed
    history: frozenset[Version]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The result of a full look. `live` and `rehearsal` are None if the version row alone was enough."""

    overview: Overview
    live: LiveSchema | None = None
    rehearsal: Rehearsal | None = None

    @property
    def state(self) -> State:
        """The store's state."""
        return self.overview.state

    @property
    def facts(self) -> Facts:
        """The facts about the database."""
        return self.overview.facts


def look(place: StoreHandle) -> Overview:
    """Read the version row, a few facts and the owners, in some round trips."""
    with transactions.look(place.conn):
        overview = state.look(place.conn, place.release, place.store, place.path)
        schema = overview.facts.schema or ""
        asked = owners.ask(place.conn, schema, place.source.tables)
        shown = standby.read(place.conn) if overview.facts.read_only else None
    return replace(overview, whose=owners.look(asked, schema, place.path), standby=shown)


def examine_steadily(
    place: StoreHandle, overview: Overview, decide: Callable[[Overview], _Found], doubted: Callable[[_Found], bool]
) -> _Found:
    """Return the decision on an overview, or on a newer overview if the store has changed in the meantime.

    `decide` also reads what the overview does not contain. While another run or tool is at work, the two can be of
    different moments. A refusal, and any decision for which `doubted` is true, is therefore checked for a change. If
    the store does not come to rest, the decision is made on its latest overview.
    """
    for _ in range(_LOOKS):
        try:
            decision = decide(overview)
        except RefusedError:
            now = look(place)
            if not _moved(overview, now):
                raise
        else:
            if not doubted(decision):
                return decision
            now = look(place)
            if not _moved(overview, now):
                return decision
        overview = now
    return decide(overview)


def at_rest(state: State) -> bool:
    """Whether the state shows no unfinished step. Any other state may be a stage between one version and the next."""
    return isinstance(state, Absent | At)


def _moved(before: Overview, now: Overview) -> bool:
    """Whether the store's rows, facts or leftovers have changed. The pid does not count: a pooler may change it."""

    def shown(overview: Overview) -> tuple[object, ...]:
        return overview.rows, replace(overview.facts, pid=0), [leftover.name for leftover in overview.whose.leftovers]

    return shown(before) != shown(now)


def examine(place: StoreHandle, overview: Overview, target: Version) -> Examination:
    """Return the state. If the version row does not settle it and the role may rehearse, compare snapshots."""
    if not place.may_rehearse(overview.facts):
        return Examination(overview=overview)
    if not settled(overview, target):
        return in_full(place, overview, target)
    return Examination(overview=overview)


def in_full(place: StoreHandle, overview: Overview, target: Version) -> Examination:
    """Rehearse and compare, whatever the version row says. Needs CREATE on the database, or a stage.

    Raises WrongStore if all tables with the store's names belong to another program.
    """
    live = read_live(place.conn, overview)
    rehearsed = _rehearsed(place, overview, live, (overview.recorded or UNVERSIONED, target))
    if not _refinable(overview):
        return Examination(overview=overview, live=live, rehearsal=rehearsed)
    if overview.recorded in (None, UNVERSIONED):
        _refuse_strangers(place, live.snapshot, rehearsed)
    evidence = recognition.Evidence(
        source=place.source,
        overview=overview,
        live=live.snapshot.validated(),
        seed=live.seed,
        rehearsal=rehearsed,
        history=live.history,
        acceptance=place.acceptance,
    )
    recognised = recognition.recognise(evidence, _other_rehearsals(place, overview, live))
    if isinstance(recognised, Unrecorded) and recognised.version < (overview.recorded or UNVERSIONED):
        rehearsed = _rehearsed(place, overview, live, (recognised.version, target))
    return Examination(overview=replace(overview, state=recognised), live=live, rehearsal=rehearsed)


def _rehearsed(place: StoreHandle, overview: Overview, live: LiveSchema, span: tuple[Version, Version]) -> Rehearsal:
    """Rehearse the store's files, closely where a plan from the first version of the span to the last needs it."""
    steps = recognition.pending(place.source, *span)
    return _rehearse(place, overview, live, place.source, {step.version for step in steps})


def _rehearse(
    place: StoreHandle, overview: Overview, live: LiveSchema, source: Source, closely: Collection[Version] = ()
) -> Rehearsal:
    """Rehearse a source, on the stage if there is one."""
    if place.stage is not None:
        return place.stage.rehearse(place.conn, live.snapshot, source, closely=closely)
    return rehearsal.rehearse(place.conn, source, closely=closely, beside=overview.facts.beside)


def _refuse_strangers(place: StoreHandle, live: Snapshot, rehearsed: Rehearsal) -> None:
    strange = rehearsal.unknown_objects(rehearsed, live)
    if strange and place.source.tables & live.tables == {*strange}:
        raise WrongStore(
            f'database "{place.store.database}" has tables of the same names that are not Temporal\'s:'
            f" {', '.join(strange)}",
            hint="give Temporal a database of its own, or a schema by search_path in SQL_CONNECT_ATTRIBUTES",
        )


def again(place: StoreHandle, before: Examination, version: Version) -> Examination:
    """Look at the schema again, and reuse the rehearsal if there is one."""
    overview = look(place)
    rehearsed = before.rehearsal or rehearsal.rehearse(
        place.conn, place.source, only=version, beside=overview.facts.beside
    )
    return Examination(overview=overview, live=read_live(place.conn, overview), rehearsal=rehearsed)


def settled(overview: Overview, target: Version) -> bool:
    """Whether the version row alone is enough: the store is empty or at its target, or a snapshot would not help."""
    match overview.state:
        case state.Absent():
            return True
        case At(version=version):
            return version == UNVERSIONED or version >= target
        case _:
            return not _refinable(overview)


def _refinable(overview: Overview) -> bool:
    """Whether a snapshot can tell more. It cannot if the row is unreadable or the recorded tables are gone."""
    return not isinstance(overview.state, Unknown) or overview.state.refinable


def read_live(conn: Connection, overview: Overview) -> LiveSchema:
    """Read the snapshot, the seed row and the history of a schema that exists."""
    schema = overview.facts.schema or ""
    with transactions.look(conn, schema):
        live = snapshot.take(conn, schema)
        seed = seed_row.read(conn, schema, live, installing=overview.recorded in (None, UNVERSIONED))
    return LiveSchema(snapshot=live, seed=seed, history=read_history(conn, overview))


def read_history(conn: Connection, overview: Overview) -> frozenset[Version]:
    """Return the versions that schema_update_history lists; empty if the table does not exist."""
    if "schema_update_history" not in overview.facts.tables:
        return frozenset()
    with transactions.look(conn):
        columns = ("version_partition", "new_version")
        rows = plain_rows.read(conn, overview.facts.schema or "", "schema_update_history", columns)
    versions = (parse_version(new) for partition, new in rows if partition == 0 and isinstance(new, str))
    return frozenset(version for version in versions if version)


def _other_rehearsals(place: StoreHandle, overview: Overview, live: LiveSchema) -> Iterator[Rehearsal]:
    """Yield the rehearsals of other releases, newest first.

    A release whose steps are the first steps of this release, or of one that was rehearsed before, shows nothing new.
    """
    known = [_made(place.source)]
    for release in place.library.sets():
        other = release.source(place.store.store)
        made = _made(other)
        if not any(made == longer[: len(made)] for longer in known):
            known.append(made)
            yield _rehearse(place, overview, live, other)


def _made(source: Source) -> list[tuple[Version, tuple[str, ...]]]:
    return [(step.version, tuple(statement.text for statement in step.statements)) for step in source.steps]

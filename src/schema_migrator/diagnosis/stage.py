"""A rehearsal on another server, for a role that may only read and for a standby (ADR 24)."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from schema_migrator.catalog import server_traits
from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.config.rehearsal_place import VARIABLE
from schema_migrator.diagnosis import rehearsal
from schema_migrator.errors import MigratorError, SettingsError, Stopped
from schema_migrator.postgres import server_errors, transactions
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.version import Version

    from schema_migrator.catalog.server_traits import ServerTraits
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Source, Step
    from schema_migrator.releases.statements import Statement

_TRIES = 6
_PAUSE_SECONDS = 0.5
_EXTENSION = re.compile(r'\bCREATE\s+EXTENSION\s+(?:IF\s+NOT\s+EXISTS\s+)?"?(?P<name>\w+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherServer:
    """A connection to a database where a scratch schema may be created, and its settings. `name` is for reports."""

    conn: Connection
    settings: StoreSettings
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """Where a store was rehearsed: the server's name and version, and how it differs from the store's server."""

    name: str
    version: str
    differences: tuple[str, ...]


class Stage:
    """Another server for the rehearsals of a store, connected when the first rehearsal is needed.

    `turns` is shared by all stages on one database, where a rehearsal would wait for another one: both create the same
    extension. `seen` says where the store was rehearsed, None if no rehearsal was needed.
    """

    def __init__(self, connect: Callable[[], OtherServer], turns: threading.Lock, interrupt: Interrupt) -> None:
        self._connect = connect
        self._turns = turns
        self._interrupt = interrupt
        self._other: OtherServer | None = None
        self.seen: Rehearsed | None = None

    def rehearse(
        self, store: Connection, live: Snapshot, source: Source, *, closely: Collection[Version] = ()
    ) -> Rehearsal:
        """Return the rehearsal of a source as in the database of the connection `store`, whose schema is `live`.

        Raises SettingsError for a server of another major version, and for the store's own database.
        """
        with transactions.look(store):
            own = server_traits.read(store)
        with self._turns:
            self._other = self._other or self._connect()
            with _explained(self._other, self._interrupt):
                theirs, found = self._rehearsed(self._other, own, source, closely)
        created = frozenset(created_extensions(statement for step in source.steps for statement in step.statements))
        differences = server_traits.differences(own, theirs, created)
        self.seen = Rehearsed(name=self._other.name, version=theirs.version, differences=differences)
        return beside(found, source.steps, live)

    def _rehearsed(
        self, other: OtherServer, own: ServerTraits, source: Source, closely: Collection[Version]
    ) -> tuple[ServerTraits, Rehearsal]:
        """Rehearse on the other server. Other runs may do the same at this moment, so it is tried a few times."""
        with transactions.look(other.conn):
            theirs = server_traits.read(other.conn)
        _assert_fit(own, theirs, other.name)
        for _ in range(_TRIES - 1):
            with suppress(psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation):
                return theirs, rehearsal.rehearse(other.conn, source, closely=closely)
            self._interrupt.sleep(_PAUSE_SECONDS)
        return theirs, rehearsal.rehearse(other.conn, source, closely=closely)


@contextmanager
def _explained(other: OtherServer, interrupt: Interrupt) -> Iterator[None]:
    """Raise the block's errors with the name of the setting, so that nobody looks for them at the store's server."""
    try:
        with server_errors.translated(other.settings, interrupt):
            yield
    except Stopped:
        raise
    except MigratorError as error:
        if VARIABLE not in error.message:
            error.message = f"{VARIABLE}: {error.message}"
        raise


def _assert_fit(own: ServerTraits, theirs: ServerTraits, name: str) -> None:
    """Raise SettingsError unless the other server can show what the store's server would create."""
    if own.major != theirs.major:
        raise SettingsError(
            f"{VARIABLE} leads to PostgreSQL {theirs.major} ({name}), expected {own.major}, as the store's server",
            hint="name a server of that major version: PostgreSQL prints definitions differently from version to"
            " version",
        )
    if own.identity == theirs.identity:
        raise SettingsError(
            f"{VARIABLE} leads to the store's own database ({name}), in which nothing is to be written",
            hint="name another database, or unset it to rehearse in the store's own",
        )


def created_extensions(statements: Iterable[Statement]) -> tuple[str, ...]:
    """Return the names of the extensions that the statements create, in their order."""
    found = (_EXTENSION.search(statement.text) for statement in statements)
    return tuple(match["name"].lower() for match in found if match)


def beside(found: Rehearsal, steps: Sequence[Step], live: Snapshot) -> Rehearsal:
    """Return a rehearsal with the extensions that it would have in a database with those of a live schema.

    A rehearsal in that database begins with its extensions. Those of the other database say nothing: it may have more,
    or have one already that a step creates.
    """
    own = frozenset(key for key in live.objects if key.kind == "extension")
    after: dict[Version, Snapshot] = {UNVERSIONED: _with(found.after[UNVERSIONED], own)}
    within: dict[Version, tuple[Snapshot, ...]] = {}
    for step in (step for step in steps if step.version in found.within):
        taken = found.within[step.version]
        grown = _growing(own, step, len(taken))
        within[step.version] = tuple(map(_with, taken, grown))
        own |= {Key("extension", "", name) for name in created_extensions(step.statements)}
        after[step.version] = _with(found.after[step.version], own)
    return replace(found, after=after, within=within)


def _growing(own: frozenset[Key], step: Step, count: int) -> list[frozenset[Key]]:
    """Return the extensions before a step and after each of its statements, or after all of them if `count` is 2."""
    made = [
        own | {Key("extension", "", name) for name in created_extensions(step.statements[:number])}
        for number in range(len(step.statements) + 1)
    ]
    return made if len(made) == count else [made[0], *[made[-1]] * (count - 1)]


def _with(taken: Snapshot, extensions: frozenset[Key]) -> Snapshot:
    kept: Mapping[Key, str] = {key: text for key, text in taken.objects.items() if key.kind != "extension"}
    return Snapshot({**kept, **dict.fromkeys(extensions, "")})

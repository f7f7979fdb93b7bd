"""The vendor's statements run in a scratch schema, inside a transaction that always rolls back.

Nothing of it stays: no schema, no lock, no setting. It costs less than a second and some hundred kB
of dead catalog rows, so it is run only when there is something to decide.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
from packaging.version import Version
from psycopg import sql

from schema_migrator import database, snapshot
from schema_migrator.errors import MigratorError
from schema_migrator.snapshot import Key
from schema_migrator.source import UNVERSIONED

if TYPE_CHECKING:
    from psycopg import Cursor

    from schema_migrator.database import Batch, Connection
    from schema_migrator.snapshot import Snapshot
    from schema_migrator.source import Source, Step

PREFIX = "schema_migrator_rehearsal_"
"""Prefix of the scratch schema's name; the rest is random."""

_LIMITS = database.Limits(table_lock=1, statement=60)
# What an event trigger of the user's own writes down about our DDL rolls back with the rest.
_STRONG_LOCKS = """
SELECT c.oid::regclass::text, l.mode FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
  AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', current_schema())
  AND NOT (l.mode IN ('RowShareLock', 'RowExclusiveLock')
    AND EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'))
"""
_FILES = """
SELECT c.relname::text, c.relfilenode FROM pg_catalog.pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What every version of a release looks like on this server.

    `after` has a snapshot a version (0.0: nothing), `within` one before and one after each statement of
    the steps that were asked for, `rewritten` the tables that a step writes anew (their file changed).
    """

    release: str
    after: Mapping[Version, Snapshot]
    within: Mapping[Version, tuple[Snapshot, ...]]
    rewritten: Mapping[Version, frozenset[str]]

    @property
    def known(self) -> frozenset[Key]:
        """Every object that some version has, or that a step has for a moment."""
        taken = [*self.after.values(), *(one for steps in self.within.values() for one in steps)]
        return frozenset(key for one in taken for key in one.objects)

    def unordered(self) -> Rehearsal:
        """Return what was rehearsed without the order of columns."""
        return replace(
            self,
            after={version: one.unordered() for version, one in self.after.items()},
            within={version: tuple(one.unordered() for one in taken) for version, taken in self.within.items()},
        )

    def touched(self, version: Version) -> frozenset[Key]:
        """Return the objects that some statement of the step to a version changes, and their tables."""
        pairs = pairwise(self.within[version])
        keys = frozenset(key for one, other in pairs for key in snapshot.changed(one, other))
        return keys | {Key("table", "", table) for key in keys if (table := snapshot.table_of(key))}

    def dropped(self, version: Version) -> frozenset[Key]:
        """Return the tables and columns that some statement of the step to a version drops."""
        pairs = pairwise(self.within[version])
        gone = (key for one, other in pairs for key in one.objects.keys() - other.objects.keys())
        return frozenset(key for key in gone if key.kind in ("table", "column"))

    def altered(self, step: Step, before: Version) -> dict[str, str]:
        """Return the tables that were there before the step and that it changes, with the lock that takes.

        A table created in the rehearsal is locked ACCESS EXCLUSIVE from then on, so that pg_locks cannot
        tell what a later ALTER of it needs: the lock follows from what changes. Indexes alone need SHARE.
        """
        old, new = self.after[before], self.after[step.version]
        keys = snapshot.changed(old, new)
        tables = {snapshot.table_of(key) for key in keys} & old.tables
        added = {key for key in keys if key.kind == "index" and key not in old.objects}
        strong = {snapshot.table_of(key) for key in keys - added}
        return {table: "ACCESS EXCLUSIVE" if table in strong else "SHARE" for table in sorted(filter(None, tables))}


def rehearse(
    conn: Connection, source: Source, *, closely: Collection[Version] = (), only: Version | None = None
) -> Rehearsal:
    """Run all steps of a source; look closely, after each statement, at some of them.

    With `only`, run the steps up to one version and look at the result alone, which is three times faster.

    `conn` must be in autocommit. Needs CREATE on the database. Raises StatementFailed where the files
    do not run on this server.
    """
    with _scratch_schema(conn) as sent:
        start, files = sent.send(snapshot.QUERY), [sent.send(_FILES)]
        asked = []
        steps = [step for step in source.steps if only is None or step.version <= only]
        for step in steps:
            looked = only in (None, step.version)
            asked.append([*_run(sent, step, each=step.version in closely, looked=looked)])
            files.append(sent.send(_FILES))
        _assert_harmless(sent.send(_STRONG_LOCKS))
    before = snapshot.read(start)
    after, within = {UNVERSIONED: before}, {}
    for step, answers in zip(steps, asked, strict=True):
        taken = tuple(map(snapshot.read, answers))
        within[step.version] = (before, *taken)
        before = after[step.version] = taken[-1] if taken else before
    rewritten = map(_rewritten, pairwise(dict(answer.fetchall()) for answer in files))
    return Rehearsal(
        release=source.release,
        after=after,
        within=within,
        rewritten={step.version: tables for step, tables in zip(steps, rewritten, strict=True)},
    )


def _run(sent: Batch, step: Step, *, each: bool, looked: bool) -> Iterator[Cursor[Any]]:
    """Send a step's statements, and the question for a snapshot after each of them or after all."""
    groups = [[one] for one in step.statements] if each else [step.statements]
    for statements in groups:
        sent.run(statements)
        if looked:
            yield sent.send(snapshot.QUERY)


@contextmanager
def _scratch_schema(conn: Connection) -> Iterator[Batch]:
    """Open the transaction that always rolls back. All is pipelined: what is fetched later is asked for now."""
    name = PREFIX + secrets.token_hex(8)
    scratch = sql.Identifier(name)
    try:
        with database.batch(conn) as sent:
            sent.send("BEGIN ISOLATION LEVEL READ COMMITTED")
            database.configure(conn, None, _LIMITS, f"{database.APPLICATION} rehearsal")
            sent.send(sql.SQL("CREATE SCHEMA {}").format(scratch))
            # The DO blocks of visibility 1.13 and 1.14 look a table up in pg_class by its name alone; this view
            # keeps them from finding the live one. pg_catalog must be named, else it would come first.
            view = "CREATE VIEW {}.pg_class AS SELECT * FROM pg_catalog.pg_class WHERE relnamespace = {}::regnamespace"
            sent.send(sql.SQL(view).format(scratch, sql.Literal(name)))
            sent.send(sql.SQL("SET LOCAL search_path = {}, pg_catalog").format(scratch))
            yield sent
    finally:
        with suppress(psycopg.Error):  # a lost connection is rolled back by the server
            conn.rollback()


def _rewritten(files: tuple[dict[str, int], dict[str, int]]) -> frozenset[str]:
    before, after = files
    return frozenset(name for name, file in before.items() if after.get(name, file) != file)


def _assert_harmless(answer: Cursor[Any]) -> None:
    locked = answer.fetchall()
    if locked:
        raise MigratorError(
            f"the rehearsal locked {locked[0][0]} ({locked[0][1]}) outside its scratch schema and was rolled back",
            hint="this is a fault of the files or of this program: please report it",
        )

"""The vendor's statements run in a scratch schema, inside a transaction that always rolls back.

Nothing of it stays: no schema, no lock, no setting. It costs less than a second and some hundred kB
of dead catalog rows, so it is run only when there is something to decide.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
from packaging.version import Version
from psycopg import sql

from schema_migrator.catalog import snapshot
from schema_migrator.catalog.leftovers import REHEARSAL
from schema_migrator.catalog.snapshot import Key
from schema_migrator.errors import MigratorError, PreflightFailed
from schema_migrator.postgres import conninfo, server_errors, session_settings, transactions
from schema_migrator.postgres.transactions import Batch
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from psycopg import Cursor

    from schema_migrator.catalog.snapshot import Key, Snapshot
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Source, Step

    _Answers = tuple[Cursor[Any], Cursor[Any]]

# What an event trigger of the user's own writes down about our DDL rolls back with the rest.
_STRONG_LOCKS = """
SELECT c.oid::regclass::text, l.mode FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
  AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', %s)
  AND NOT (l.mode IN ('RowShareLock', 'RowExclusiveLock')
    AND EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'))
"""
_BODIES = """
SELECT c.relname::text, c.relfilenode, (
  SELECT json_object_agg(a.attname, a.attnum) FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = 'r'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What a snapshot does not compare: the file that holds a table's rows, and its columns' numbers.

    A file that changes means that every row was written anew; a column that was dropped and added again
    has another number, and has lost its values.
    """

    file: int
    columns: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What every version of a release looks like on this server.

    `after` has a snapshot a version (0.0: nothing), `within` one before and one after each statement of
    the steps that were asked for, and so has `bodies` the tables' bodies by their names.
    """

    release: str
    after: Mapping[Version, Snapshot]
    within: Mapping[Version, tuple[Snapshot, ...]]
    bodies: Mapping[Version, tuple[Mapping[str, Storage], ...]]

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
        """Return the objects that some statement of the step to a version changes."""
        pairs = pairwise(self.within[version])
        return frozenset(key for one, other in pairs for key in snapshot.changed(one, other))

    def rewrites(self, version: Version, *, start: int = 0) -> dict[str, int]:
        """Return how often the step to a version writes a table anew, from one of its statements on."""
        counts: dict[str, int] = {}
        for before, after in pairwise(self.bodies[version][start:]):
            for table in before.keys() & after.keys():
                if before[table].file != after[table].file:
                    counts[table] = counts.get(table, 0) + 1
        return counts

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
    steps = [step for step in source.steps if only is None or step.version <= only]
    with scratch_schema(conn) as sent:
        start = _look(sent)
        asked = [
            [*_run(sent, step, each=step.version in closely, looked=only in (None, step.version))] for step in steps
        ]
        assert_harmless(sent)
    before, body = _read(start, sent.schema)
    after, within, bodies = {UNVERSIONED: before}, {}, {}
    for step, answers in zip(steps, asked, strict=True):
        taken = [(before, body), *(_read(answer, sent.schema) for answer in answers)]
        within[step.version] = tuple(one for one, _ in taken)
        bodies[step.version] = tuple(one for _, one in taken)
        before, body = taken[-1]
        after[step.version] = before
    return Rehearsal(release=source.release, after=after, within=within, bodies=bodies)


def _run(sent: Batch, step: Step, *, each: bool, looked: bool) -> Iterator[_Answers]:
    """Send a step's statements, and look after each of them or after all."""
    groups = [[one] for one in step.statements] if each else [step.statements]
    for statements in groups:
        sent.run(statements)
        if looked:
            yield _look(sent)


def _look(sent: Batch) -> _Answers:
    return sent.send(snapshot.QUERY, [sent.schema]), sent.send(_BODIES, [sent.schema])


def _read(answers: _Answers, schema: str) -> tuple[Snapshot, dict[str, Storage]]:
    taken, bodies = answers
    found = {name: Storage(file=file, columns=columns or {}) for name, file, columns in bodies.fetchall()}
    return snapshot.read(taken, schema), found


@contextmanager
def scratch_schema(conn: Connection, *, piped: bool = True) -> Iterator[Batch]:
    """Open the transaction that always rolls back.

    All is pipelined, what is fetched later asked for now, unless the block is to see each answer: in a pipeline
    psycopg's `transaction()` knows nothing of the open one, and would commit it.
    """
    name = REHEARSAL + secrets.token_hex(8)
    scratch, path = sql.Identifier(name), f"{name}, pg_catalog, pg_temp"
    try:
        with transactions.batch(conn, name, path) if piped else nullcontext(Batch(conn, name, path)) as sent:
            sent.send("BEGIN ISOLATION LEVEL READ COMMITTED")
            transactions.configure(conn, session_settings.LOOK, f"{conninfo.APPLICATION} rehearsal")
            sent.send(sql.SQL("CREATE SCHEMA {}").format(scratch))
            # Nobody else sees it, but an event trigger of the user's may make another role own what is made here.
            sent.send(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO PUBLIC").format(scratch))
            # The DO blocks of visibility 1.13 and 1.14 look a table up in pg_class by its name alone; this view
            # keeps them from finding the live one. The path names pg_catalog, which would otherwise come first.
            view = "CREATE VIEW {}.pg_class AS SELECT * FROM pg_catalog.pg_class WHERE relnamespace = {}::regnamespace"
            sent.send(sql.SQL(view).format(scratch, sql.Literal(name)))
            yield sent
    except psycopg.errors.InsufficientPrivilege as error:
        raise _taken_away(error) or error from error
    except psycopg.errors.QueryCanceled as error:
        error.add_note(server_errors.OWN_LIMIT)
        raise
    finally:
        with suppress(psycopg.Error):  # a lost connection is rolled back by the server
            conn.rollback()


def _taken_away(error: psycopg.Error) -> PreflightFailed | None:
    """Return what says that somebody has taken what a rehearsal made: nobody can grant a right to what is gone."""
    text = error.diag.message_primary or ""
    if REHEARSAL not in text and not text.startswith("must be owner of"):
        return None
    return PreflightFailed(
        f"the role has no privilege on what it created itself in a rehearsal, which was rolled back: {text}",
        hint="if an event trigger of this database (in psql: \\dy) makes another role the owner, let our role be a"
        " member of that one",
    )


def assert_harmless(sent: Batch) -> None:
    """Raise MigratorError where anything but reading was done to a table outside the scratch schema."""
    locked = sent.send(_STRONG_LOCKS, [sent.schema]).fetchall()
    if locked:
        raise MigratorError(
            f"the rehearsal locked {locked[0][0]} ({locked[0][1]}) outside its scratch schema and was rolled back",
            hint="this is a bug in the files or in this program: please report it",
        )


def unknown_objects(rehearsal: Rehearsal, live: Snapshot) -> tuple[str, ...]:
    """Return the tables that only bear a name of Temporal's: they have less than half the columns of every version."""

    def columns(taken: Snapshot, table: str) -> set[str]:
        return {key.name for key in taken.objects if key.kind == "column" and key.parent == table}

    named = {table: [columns(one, table) for one in rehearsal.after.values()] for table in live.tables}
    known = {table: [one for one in versions if one] for table, versions in named.items()}
    return tuple(
        sorted(
            table
            for table, versions in known.items()
            if versions and all(2 * len(one & columns(live, table)) < len(one) for one in versions)
        )
    )

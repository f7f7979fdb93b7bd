"""Runs the vendor's statements in a scratch schema, inside a transaction that always rolls back.

No schema, lock or setting remains. A rehearsal costs less than a second and some hundred kB of dead catalog rows, so it
runs only when there is something to decide.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
from packaging.version import Version
from psycopg import sql

from schema_migrator.catalog import owners, snapshot
from schema_migrator.catalog.leftovers import REHEARSAL
from schema_migrator.catalog.snapshot import Key
from schema_migrator.diagnosis import shadow_catalogs
from schema_migrator.errors import MigratorError, PreflightFailed
from schema_migrator.postgres import conninfo, server_errors, session_settings, transactions
from schema_migrator.postgres.transactions import Batch
from schema_migrator.releases.source import UNVERSIONED
from schema_migrator.releases.statements import created_tables, dropped_tables, own_tables

if TYPE_CHECKING:
    from psycopg import Cursor

    from schema_migrator.catalog.snapshot import Key, Snapshot
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Source, Step
    from schema_migrator.releases.statements import Statement

    _Answers = tuple[Cursor[Any], Cursor[Any]]

_TEMP = ", pg_temp"  # named last, because PostgreSQL would otherwise search it first
# A user's event trigger may record our DDL in a table. That is harmless, because it rolls back with the rest.
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
    """What a snapshot does not compare: the file with a table's rows, and its columns' numbers by name.

    If the file changes, PostgreSQL has rewritten every row. If a column has another number, it was dropped and added
    again, and its values are lost.
    """

    file: int
    columns: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """The schema of every version of a release, as its files create it on this server.

    `after` has one snapshot per version (0.0 is empty). `within` has, for each step, the snapshot before it and the one
    after it; if the step was rehearsed closely, one after each of its statements. `bodies` has the tables' storage, by
    name, at the same moments. `changing` are the versions whose step may change rows, which no snapshot shows.
    """

    release: str
    after: Mapping[Version, Snapshot]
    within: Mapping[Version, tuple[Snapshot, ...]]
    bodies: Mapping[Version, tuple[Mapping[str, Storage], ...]]
    changing: frozenset[Version]

    @property
    def known(self) -> frozenset[Key]:
        """Every object that any version has, or that exists temporarily within a step."""
        snapshots = [*self.after.values(), *(each for taken in self.within.values() for each in taken)]
        return frozenset(key for each in snapshots for key in each.objects)

    def unordered(self) -> Rehearsal:
        """Return the rehearsal without the order of columns."""
        return replace(
            self,
            after={version: taken.unordered() for version, taken in self.after.items()},
            within={version: tuple(each.unordered() for each in taken) for version, taken in self.within.items()},
        )

    def touched(self, version: Version) -> frozenset[Key]:
        """Return the objects that any statement of the step to a version changes."""
        pairs = pairwise(self.within[version])
        return frozenset(key for before, after in pairs for key in snapshot.changed(before, after))

    def rewrites(self, version: Version, *, start: int = 0) -> dict[str, int]:
        """Return how often the step to a version rewrites each table, from the statement with index `start` on."""
        counts: dict[str, int] = {}
        for before, after in pairwise(self.bodies[version][start:]):
            for table in before.keys() & after.keys():
                if before[table].file != after[table].file:
                    counts[table] = counts.get(table, 0) + 1
        return counts

    def dropped(self, version: Version) -> frozenset[Key]:
        """Return the tables and columns that any statement of the step to a version drops."""
        pairs = pairwise(self.within[version])
        gone = (key for before, after in pairs for key in before.objects.keys() - after.objects.keys())
        return frozenset(key for key in gone if key.kind in ("table", "column"))

    def altered(self, step: Step, before: Version) -> dict[str, str]:
        """Return the existing tables that a step changes, each with the lock that the change takes.

        pg_locks cannot show that lock, because a rehearsal holds ACCESS EXCLUSIVE on a table from its creation on. The
        lock is derived from what changes: new indexes alone need SHARE.
        """
        old, new = self.after[before], self.after[step.version]
        keys = snapshot.changed(old, new)
        tables = {snapshot.table_of(key) for key in keys} & old.tables
        added = {key for key in keys if key.kind == "index" and key not in old.objects}
        strong = {snapshot.table_of(key) for key in keys - added}
        return {table: "ACCESS EXCLUSIVE" if table in strong else "SHARE" for table in sorted(filter(None, tables))}


def rehearse(
    conn: Connection,
    source: Source,
    *,
    closely: Collection[Version] = (),
    only: Version | None = None,
    beside: str = "",
) -> Rehearsal:
    """Run all steps of a source, and read a snapshot after each; for the steps in `closely`, after each statement.

    With `only`, run the steps up to that version and read only the result, which is three times faster.

    `beside` is the live schema, if the types and operator classes of an extension are in it: the files name them.

    `conn` must be in autocommit mode. Needs CREATE on the database. Raises StatementFailed if the files do not run on
    this server.
    """
    steps = [step for step in source.steps if only is None or step.version <= only]
    with scratch_schema(conn, [statement for step in steps for statement in step.statements]) as sent:
        start = _look(sent)
        stage = _Stage(sent=sent, beside=beside)
        asked = [
            [*_run(stage, step, each=step.version in closely, looked=only in (None, step.version))] for step in steps
        ]
        assert_harmless(sent)
    before, body = _read(start, sent.schema, beside)
    after, within, bodies = {UNVERSIONED: before}, {}, {}
    for step, answers in zip(steps, asked, strict=True):
        taken = [(before, body), *(_read(answer, sent.schema, beside) for answer in answers)]
        within[step.version] = tuple(schema for schema, _ in taken)
        bodies[step.version] = tuple(storage for _, storage in taken)
        before, body = taken[-1]
        after[step.version] = before
    changing = (step.version for step in steps if any(statement.changes_rows for statement in step.statements))
    return Rehearsal(release=source.release, after=after, within=within, bodies=bodies, changing=frozenset(changing))


@dataclass(slots=True, kw_only=True)
class _Stage:
    """The scratch schema with the names of the tables that were created in it until now."""

    sent: Batch
    beside: str
    tables: set[str] = field(default_factory=set)

    def run(self, statement: Statement) -> None:
        """Send a statement. It sees an extension beside it only if it cannot reach a live table."""
        names = own_tables(statement.text)
        wider = bool(self.beside) and names is not None and names <= self.tables
        path = f"{self.sent.path.removesuffix(_TEMP)}, {owners.quoted(self.beside)}{_TEMP}" if wider else None
        self.sent.run([shadow_catalogs.redirected(statement)], path=path)
        self.tables |= created_tables(statement.text)
        self.tables -= dropped_tables(statement.text)


def _run(stage: _Stage, step: Step, *, each: bool, looked: bool) -> Iterator[_Answers]:
    """Send a step's statements, and yield the queries for a look after each statement or after all of them."""
    groups = [[statement] for statement in step.statements] if each else [step.statements]
    for statements in groups:
        for statement in statements:
            stage.run(statement)
        if looked:
            yield _look(stage.sent)


def _look(sent: Batch) -> _Answers:
    return sent.send(snapshot.QUERY, [sent.schema]), sent.send(_BODIES, [sent.schema])


def _read(answers: _Answers, schema: str, beside: str) -> tuple[Snapshot, dict[str, Storage]]:
    taken, bodies = answers
    storage = {name: Storage(file=file, columns=columns or {}) for name, file, columns in bodies.fetchall()}
    found = snapshot.read(taken, schema)
    if beside:
        found = snapshot.Snapshot({key: snapshot.local(text, beside) for key, text in found.objects.items()})
    return found, storage


@contextmanager
def scratch_schema(conn: Connection, statements: Collection[Statement] = (), *, piped: bool = True) -> Iterator[Batch]:
    """Open a transaction with a scratch schema, and always roll it back.

    By default everything is pipelined: the block sends its queries and fetches the answers later. With `piped=False` it
    can see each answer at once, and use psycopg's `transaction()`. In a pipeline, `transaction()` does not know about
    the open transaction and would commit it. `statements` are the vendor's that will look something up by its name.
    """
    name = REHEARSAL + secrets.token_hex(8)
    scratch, path = sql.Identifier(name), f"{name}, pg_catalog{_TEMP}"
    try:
        with transactions.batch(conn, name, path) if piped else nullcontext(Batch(conn, name, path)) as sent:
            sent.send("BEGIN ISOLATION LEVEL READ COMMITTED")
            transactions.configure(conn, session_settings.LOOK, f"{conninfo.APPLICATION} rehearsal")
            sent.send(sql.SQL("CREATE SCHEMA {}").format(scratch))
            # No other session sees the schema, but a user's event trigger may make another role own its objects.
            sent.send(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO PUBLIC").format(scratch))
            # The DO blocks of visibility 1.13 and 1.14 look up a table in pg_class by its name alone. The path names
            # pg_catalog, which would otherwise come before the views.
            for view in shadow_catalogs.views(name, statements):
                sent.send(view)
            yield sent
    except psycopg.errors.InsufficientPrivilege as error:
        raise _taken_away(error) or error from error
    except psycopg.errors.QueryCanceled as error:
        error.add_note(server_errors.OWN_LIMIT)
        raise
    finally:
        with suppress(psycopg.Error):  # if the connection is lost, the server rolls back
            conn.rollback()


def _taken_away(error: psycopg.Error) -> PreflightFailed | None:
    """Return the error for an event trigger that gave a rehearsal's objects to another role; None if it is not that.

    PostgreSQL's own error would suggest a grant, but the objects are gone after the rollback.
    """
    text = error.diag.message_primary or ""
    if REHEARSAL not in text and not text.startswith("must be owner of"):
        return None
    return PreflightFailed(
        f"the role has no privilege on what it created itself in a rehearsal, which was rolled back: {text}",
        hint="if an event trigger of this database (in psql: \\dy) makes another role the owner, let our role be a"
        " member of that one",
    )


def assert_harmless(sent: Batch) -> None:
    """Raise MigratorError if the rehearsal did anything but read a table outside the scratch schema."""
    locked = sent.send(_STRONG_LOCKS, [sent.schema]).fetchall()
    if locked:
        raise MigratorError(
            f"the rehearsal locked {locked[0][0]} ({locked[0][1]}) outside its scratch schema and was rolled back",
            hint="this is a bug in the files or in this program: please report it",
        )


def unknown_objects(rehearsal: Rehearsal, live: Snapshot) -> tuple[str, ...]:
    """Return the tables that share only their name with Temporal's: they lack most of the columns of every version."""

    def columns(taken: Snapshot, table: str) -> set[str]:
        return {key.name for key in taken.objects if key.kind == "column" and key.parent == table}

    named = {table: [columns(taken, table) for taken in rehearsal.after.values()] for table in live.tables}
    known = {table: [names for names in versions if names] for table, versions in named.items()}
    return tuple(
        sorted(
            table
            for table, versions in known.items()
            if versions and all(2 * len(names & columns(live, table)) < len(names) for names in versions)
        )
    )

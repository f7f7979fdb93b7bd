"""The vendor's tool stopped at any of its statements, and run again, and what ours makes of what is left."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import unified_diff
from functools import partial
from typing import Any
from unittest.mock import patch

from psycopg import sql

from schema_migrator import events
from schema_migrator.commands import migrate as command
from schema_migrator.commands.migrate import Migration
from schema_migrator.commands.preview import show_plan
from schema_migrator.concurrency import Interrupt
from schema_migrator.config import settings
from schema_migrator.errors import MigratorError, NotAsRehearsed
from support.postgres.databases import Databases, bookkeeping, unique
from support.postgres.proxy import Options, Proxy
from support.program.references import Picture, References, latest, picture, versions
from support.vendor.tool import VendorError, VendorTool

Rows = list[tuple[Any, ...]]
Records = Mapping[str, Rows]
Heal = Callable[[Databases, str, str, str], None]
"""Brings a database of a release's store to the release's target: databases, release, store, name."""

KINDS = "QES"
"""The messages that count: simple queries, executions, and the Sync that commits these."""
SETUP = "setup"
SETUP_STATEMENTS = 8
RETRIES = 3
HISTORY = "schema_update_history"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where the vendor's tool is stopped: before a statement is sent, or after it ran and before the answer.

    `number` counts the statements of a step from 1, the two of its bookkeeping included; the step "setup" is
    setup-schema and what update-schema asks before its first step. `message` is the one to cut at.
    """

    release: str
    store: str
    version: str
    number: int
    after: bool
    message: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a point after some retries of the vendor's: `problem` is empty when ours reached the target.

    `vendor` tells whether the vendor's own commands had reached it by then, `stuck` what they last said if not.
    `known`: the state was, byte for byte, one that ours had migrated before.
    """

    point: Point
    retries: int
    vendor: bool
    stuck: str
    problem: str
    known: bool


def points(databases: Databases, release: str, store: str) -> list[Point]:
    """Return all points of the vendor's two commands on an empty database, in their order."""
    with Proxy(Options(host=databases.host, port=databases.port, cut_kinds=KINDS)) as proxy:
        tool = VendorTool(version=release, databases=databases.via(proxy.port))
        tool.migrate(store, database=databases.create())
    return list(_points(proxy.stats.kinds, release, store))


def _points(kinds: str, release: str, store: str) -> Iterator[Point]:
    steps = iter(versions(release, store))
    version, number, records = SETUP, 0, 0
    for position, (kind, before, after) in enumerate(_statements(kinds)):
        if records == 2 or position == SETUP_STATEMENTS:
            version, number, records = next(steps), 0, 0
        number += 1
        records += kind == "E" and version != SETUP
        at = partial(Point, release=release, store=store, version=version, number=number)
        yield from (at(after=False, message=before), at(after=True, message=after))


def _statements(kinds: str) -> Iterator[tuple[str, int, int]]:
    """Yield each statement's kind and the messages to cut at before it and after it.

    A simple query is both. An execution has no effect before its Sync.
    """
    for at, kind in enumerate(kinds, 1):
        if kind == "Q":
            yield kind, at, at
        elif kind == "E":
            yield kind, at, at + 1 + kinds[at:].index("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Tries points on one server.

    `seen` are states that ours has migrated, with what came of it: a point that leaves the same state again
    (before a statement is mostly as after the one before) shares that, unless `every` is to be migrated.
    `heal` is what brings a store to its target, and raises what MigratorError it likes.
    """

    databases: Databases
    references: References
    heal: Heal = field(default_factory=lambda: run_migrate)
    every: bool = False
    seen: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def outcomes(self, point: Point) -> Iterator[Outcome]:
        """Yield what comes of a point after none, one, two and three retries of the vendor's."""
        database = self.databases.create()
        stuck = self.stop(point, database)
        for retries in range(RETRIES + 1):
            if retries and stuck:
                stuck = self.attempt(self.databases, point, database)
            problem, known = self._resumed(point, database, anew=self.every and not retries)
            yield Outcome(point=point, retries=retries, vendor=not stuck, stuck=stuck, problem=problem, known=known)
        drop(self.databases, database)

    def outcome(self, point: Point, retries: int) -> Outcome:
        """Return what comes of a point after some retries."""
        database = self.databases.create()
        stuck = self.stop(point, database)
        for _ in range(retries):
            stuck = self.attempt(self.databases, point, database)
        problem = self.migrate(point.release, point.store, database)
        return Outcome(point=point, retries=retries, vendor=not stuck, stuck=stuck, problem=problem, known=False)

    def stop(self, point: Point, database: str) -> str:
        """Start the vendor's two commands on an empty database and stop them at the point."""
        options = Options(
            host=self.databases.host,
            port=self.databases.port,
            cut_at=point.message,
            cut_after=point.after,
            cut_kinds=KINDS,
            final=True,
        )
        with Proxy(options) as proxy:
            stuck = self.attempt(self.databases.via(proxy.port), point, database)
        assert proxy.stats.cuts == 1
        return stuck

    def attempt(self, databases: Databases, point: Point, database: str) -> str:
        """Run the vendor's two commands; return the last line of their complaint, or nothing."""
        try:
            VendorTool(version=point.release, databases=databases).migrate(point.store, database=database)
        except VendorError as error:
            return str(error).strip().splitlines()[-1]
        return ""

    def migrate(self, release: str, store: str, database: str) -> str:
        """Run ours; return all that is wrong with the result, which is nothing."""
        before = self._history(database)
        try:
            self.heal(self.databases, release, store, database)
            (seen,) = show_plan(read_settings(self.databases, release, store, database), Interrupt())
        except MigratorError as error:
            return f"{type(error).__name__}: {error}"
        found, expected = picture(self.databases, database), self.reference(release, store)
        wrong = differences(found, expected) + wrong_history(before, found.records, expected.records)
        wrong += ["another plan is not empty"] * (not seen.plan.empty)
        return "; ".join(wrong)

    def reference(self, release: str, store: str) -> Picture:
        """Return the picture of a clean run of the vendor's."""
        return self.references.picture(store, (release, latest(release, store)))

    def _history(self, database: str) -> Rows:
        with self.databases.connect(database) as connection:
            return bookkeeping(connection).get(HISTORY, [])

    def _resumed(self, point: Point, database: str, *, anew: bool) -> tuple[str, bool]:
        """Migrate a copy, unless the state was there before; tell what came of it."""
        left = picture(self.databases, database)
        rows = {table: sorted(set(rows)) for table, rows in left.records.items()}
        state = point.release, point.store, f"{left.schema}{rows}".replace(database, "<database>")
        known = not anew and state in self.seen
        if not known:
            copied = copy(self.databases, database)
            self.seen[state] = self.migrate(point.release, point.store, copied)
            drop(self.databases, copied)
        return self.seen[state], known


def migrate(databases: Databases, release: str, store: str, database: str, **variables: str) -> Migration:
    """Run our migrate in this process."""
    events.configure("critical", terminal=False)
    (done,) = command.migrate(read_settings(databases, release, store, database, **variables), Interrupt())
    return done


def run_migrate(databases: Databases, release: str, store: str, database: str) -> None:
    """Run our migrate; a result that is not as it has to be raises NotAsRehearsed."""
    done = migrate(databases, release, store, database)
    if done.verdict is not None and not done.verdict.equal:
        raise NotAsRehearsed("the verdict is not equal")


def read_settings(databases: Databases, release: str, store: str, database: str, **variables: str) -> settings.Settings:
    """Return the settings for one store in a named database, under more variables."""
    names = {
        "TEMPORAL_VERSION": release,
        "SCHEMA_MIGRATOR_STORES": store,
        f"{store.upper()}_SQL_DATABASE": database,
    }
    with patch.dict(os.environ, databases.env() | names | variables, clear=True):
        return settings.read({})


def differences(found: Picture, expected: Picture) -> list[str]:
    """Return in words what differs, the history aside."""
    lines = unified_diff(expected.schema.splitlines(), found.schema.splitlines(), lineterm="", n=0)
    wrong = [f"the dump differs: {line}" for line in lines if not line.startswith(("---", "+++", "@@"))]
    return wrong + [
        f"{table} is {found.records.get(table)}, expected {rows}"
        for table, rows in expected.records.items()
        if table != HISTORY and found.records.get(table) != rows
    ]


def wrong_history(before: Rows, found: Records, expected: Records) -> list[str]:
    """Return in words what a run should not have added to the history.

    What the vendor's tool left out of it is missing; what two of them wrote twice is there twice.
    """
    added = Counter(found.get(HISTORY, [])) - Counter(before)
    wrong = [row for row, times in added.items() if times > 1 or row in before or row not in expected[HISTORY]]
    return [f"{HISTORY} got {wrong}"] if wrong else []


def copy(databases: Databases, database: str) -> str:
    """Return a copy of a database; its version row bears the copy's name."""
    name = unique("temporal_copy")
    with databases.admin() as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(databases.user), sql.Identifier(database)
            )
        )
    with databases.connect(name) as connection:
        if connection.execute("SELECT to_regclass('schema_version')").fetchone() != (None,):
            connection.execute("UPDATE schema_version SET db_name = %s WHERE db_name = %s", [name, database])
    return name


def drop(databases: Databases, database: str) -> None:
    """Drop a database that is not needed any more."""
    with databases.admin() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

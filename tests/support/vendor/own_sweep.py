"""Our own run stopped at any of its messages, in an empty store and in an upgrade of tables with rows."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from unittest.mock import patch

from schema_migrator.errors import MigratorError
from schema_migrator.execution import native
from schema_migrator.planning.plan import Plan, PlannedStep
from schema_migrator.runs.context import RunContext
from support.postgres.databases import Databases
from support.postgres.proxy import Options, Proxy
from support.postgres.rows import contents, fill
from support.program.references import Picture, picture, start_by_vendor
from support.vendor.kill_sweep import KINDS, copy, differences, drop, migrate, wrong_history
from support.vendor.tool import VendorTool

EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What came of a stop of ours, and of one more run: `problem` is empty when that reached the target."""

    release: str
    store: str
    start: str
    message: int
    after: bool
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """A store's way from a start to a release's target.

    `origin` is the database to copy, `reached` is what the vendor's tool makes of it, `done` and `rows` are what that
    holds. `variables` are more of them for our runs.
    """

    databases: Databases
    release: str
    store: str
    start: str
    origin: str
    done: Picture
    rows: dict[str, list[str]]
    reached: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def length(self) -> int:
        """Return the number of messages of a run that nobody stops."""
        database = copy(self.databases, self.origin)
        with Proxy(self.options()) as proxy:
            self._migrate(self.databases.via(proxy.port), database)
        drop(self.databases, database)
        return proxy.stats.messages

    def span(self) -> range:
        """Return the messages of a run that nobody stops, from the first to the last that belongs to a step."""
        database = copy(self.databases, self.origin)
        run_step, seen = native.run_step, list[int]()
        with Proxy(self.options()) as proxy:

            def counted(work: RunContext, plan: Plan, step: PlannedStep) -> native.Outcome:
                seen.append(proxy.stats.messages)
                outcome = run_step(work, plan, step)
                seen.append(proxy.stats.messages)
                return outcome

            with patch.object(native, "run_step", counted):
                self._migrate(self.databases.via(proxy.port), database)
        drop(self.databases, database)
        return range(min(seen) + 1, max(seen) + 1)

    def stop(self, message: int, *, after: bool) -> Own:
        """Cut ours at a message, run it again, and compare."""
        database = copy(self.databases, self.origin)
        with Proxy(self.options(message, after=after)) as proxy, suppress(MigratorError):
            self._migrate(self.databases.via(proxy.port), database)
        problem = "; ".join([*self._half_installed(database), *self.resumed(database)])
        drop(self.databases, database)
        return Own(
            release=self.release, store=self.store, start=self.start, message=message, after=after, problem=problem
        )

    def options(self, message: int | None = None, *, after: bool = False) -> Options:
        """Return the options of a proxy that cuts at a message."""
        where = {"host": self.databases.host, "port": self.databases.port}
        return Options(**where, cut_at=message, cut_after=after, cut_kinds=KINDS)  # type: ignore[arg-type]  # a text and a number

    def _migrate(self, databases: Databases, database: str) -> None:
        migrate(databases, self.release, self.store, database, **self.variables)

    def _half_installed(self, database: str) -> list[str]:
        left = picture(self.databases, database)
        half = self.start == EMPTY and left.records and differences(left, self.done)
        return ["a part of an installation is there"] if half else []

    def resumed(self, database: str | None = None) -> list[str]:
        """Run ours on a copy, however it was left, or on a new one; return in words what is wrong with the result."""
        database = database or copy(self.databases, self.origin)
        before = picture(self.databases, database).records.get("schema_update_history", [])
        try:
            self._migrate(self.databases, database)
        except MigratorError as error:
            return [f"{type(error).__name__}: {error}"]
        found = picture(self.databases, database)
        with self.databases.connect(database) as connection:
            lost = [table for table, rows in contents(connection).items() if rows != self.rows.get(table)]
        wrong = differences(found, self.done) + wrong_history(before, found.records, self.done.records)
        return wrong + [f"the rows of {table} differ" for table in lost]


def journey(databases: Databases, release: str, store: str, start: str) -> Journey:
    """Make the start by the vendor's tool, with rows, and let that tool upgrade a copy, to compare with."""
    tool = VendorTool(version=release, databases=databases)
    origin = databases.create() if start == EMPTY else start_by_vendor(databases, store, (release, start), own=False)
    if start != EMPTY:
        with databases.connect(origin) as connection:
            fill(connection)
    upgraded = copy(databases, origin)
    tool.migrate(store, database=upgraded)
    with databases.connect(upgraded) as connection:
        rows = contents(connection)
    done = picture(databases, upgraded)
    return Journey(
        databases=databases,
        release=release,
        store=store,
        start=start,
        origin=origin,
        done=done,
        rows=rows,
        reached=upgraded,
    )

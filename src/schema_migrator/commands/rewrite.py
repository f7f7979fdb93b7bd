"""The command `rewrite`: what online rewrites are doing, and requests to the runs that work on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from schema_migrator import events
from schema_migrator.catalog import leftovers
from schema_migrator.commands.store_tasks import StoreTask, each, looks, tasks
from schema_migrator.errors import MigratorError, RefusedError
from schema_migrator.online import control, holding
from schema_migrator.postgres import server_errors, transactions
from schema_migrator.releases.source import parse_version
from schema_migrator.runs import advisory_lock

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.online.control import Control
    from schema_migrator.planning.plan import Plan
    from schema_migrator.releases.source import Store

Request = Mapping[str, bool | int]
SWAP: Request = {"swap": True, "paused": False}
REQUESTS: Mapping[str, Request] = {
    "swap": SWAP,
    "pause": {"paused": True, "swap": False},
    "resume": {"paused": False},
}
"""What each request changes in the control row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRewrite:
    """An unfinished online rewrite: the rows it has copied, its control row, and who works on it.

    `control` is None if a version without that row began it. `runner` is None if no run works on it. `copied` and
    `control` are None if our role may not read the rewrite's schema.
    """

    leftover: Leftover
    copied: int | None
    control: Control | None
    runner: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRewrites:
    """The unfinished online rewrites of a store, after the request; `followed`: those whose run got it."""

    store: Store
    database: str
    rewrites: tuple[RunningRewrite, ...]
    followed: frozenset[str] = frozenset()


def rewrites(settings: Settings, interrupt: Interrupt, request: Request | None = None) -> tuple[StoreRewrites, ...]:
    """Return the unfinished rewrites of every store, after the runs that work on them got the request, if any.

    Raises RefusedError if a rewrite has no run that could follow the request, or if there is no rewrite.
    """
    with tasks(settings, interrupt) as by_store:
        overviews = looks(by_store)
        found = each(by_store, lambda task: _of_store(task, overviews[task.store.store], request))
    if request is not None:
        _refuse_unfollowed(tuple(found.values()))
    return tuple(found.values())


def running(task: StoreTask, overview: Overview) -> tuple[RunningRewrite, ...]:
    """Return the unfinished rewrites of a store."""
    found = (_running(task, leftover) for leftover in overview.whose.leftovers if leftover.unfinished)
    return tuple(rewrite for rewrite in found if rewrite is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverRequest:
    """Asks the run that holds the cutover of a store's rewrite to go on, for a run that waits for the advisory lock.

    It asks only for a rewrite that leads no further than `target`, and logs each answer once.
    """

    task: StoreTask
    schema: str
    target: Version
    told: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, task: StoreTask, plan: Plan) -> CutoverRequest:
        """Return the request of a run with this plan."""
        return cls(task=task, schema=plan.schema, target=plan.target)

    def ask(self) -> None:
        """Ask, unless our own run would wait for the moment of the cutover too. Nothing is raised but Stopped."""
        if holding.holds(self.task.settings.run):
            return
        try:
            with server_errors.translated(self.task.store, self.task.interrupt):
                self._ask()
        except MigratorError as error:
            self.task.interrupt.check()
            if self._first("refused"):
                events.logger().warning("online.swap_refused", reason=str(error))

    def _ask(self) -> None:
        conn = self.task.place.conn
        with transactions.look(conn):
            found = leftovers.find(conn, self.schema, self.task.place.source.tables).leftovers
        for leftover in (leftover for leftover in found if leftover.unfinished and not leftover.lost):
            target = parse_version(leftover.target)
            asked = target is not None and target <= self.target and control.ask(conn, leftover.name, SWAP)
            if asked and self._first(leftover.table):
                events.logger().info("online.swap_requested", table=leftover.table)

    def _first(self, answer: str) -> bool:
        """Return whether this answer comes for the first time."""
        new = answer not in self.told
        self.told.add(answer)
        return new


def _of_store(task: StoreTask, overview: Overview, request: Request | None) -> StoreRewrites:
    followed = frozenset[str]()
    if request is not None:
        unfinished = [leftover.name for leftover in overview.whose.leftovers if leftover.unfinished]
        followed = frozenset(name for name in unfinished if control.ask(task.place.conn, name, request))
    return StoreRewrites(
        store=task.store.store, database=task.store.database, rewrites=running(task, overview), followed=followed
    )


def _running(task: StoreTask, leftover: Leftover) -> RunningRewrite | None:
    """Return the rewrite, None if it is gone by now."""
    conn = task.place.conn
    copied: int | None
    controlled: Control | None
    try:
        with transactions.look(conn):
            copied, controlled = leftovers.copied(conn, leftover), control.read(conn, leftover.name)
            holder = advisory_lock.holder(conn)
    except psycopg.errors.UndefinedTable:
        return None
    except psycopg.errors.InsufficientPrivilege:  # the schema is closed to all roles but the migrating one
        copied, controlled = None, None
        with transactions.look(conn):
            holder = advisory_lock.holder(conn)
    works = holder is not None and (controlled is None or controlled.runner == holder[0])
    return RunningRewrite(
        leftover=leftover, copied=copied, control=controlled, runner=holder[1] if holder and works else None
    )


def _refuse_unfollowed(found: tuple[StoreRewrites, ...]) -> None:
    left = [rewrite for store in found for rewrite in store.rewrites if rewrite.leftover.name not in store.followed]
    if left:
        tables = ", ".join(f'"{rewrite.leftover.table}"' for rewrite in left)
        raise RefusedError(
            f"no run works on the online rewrite of {tables}, expected one that can follow the request",
            hint="if a run has just started, try again; otherwise schema-migrator migrate resumes it and cuts over, and"
            " schema-migrator migrate --abandon removes it",
        )
    if not any(store.rewrites or store.followed for store in found):
        raise RefusedError("no store has an unfinished online rewrite", hint="see schema-migrator status")

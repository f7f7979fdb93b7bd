"""The command `rewrite`: what online rewrites are doing, and requests to the runs that work on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.catalog import leftovers
from schema_migrator.commands.store_tasks import StoreTask, each, looks, tasks
from schema_migrator.errors import MigratorError, RefusedError
from schema_migrator.online import control
from schema_migrator.postgres import transactions
from schema_migrator.releases.source import parse_version
from schema_migrator.runs import advisory_lock

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.online.control import Control
    from schema_migrator.planning.plan import Plan
    from schema_migrator.releases.source import Store

Request = Mapping[str, bool | int]
SWAP: Request = {"swap": True, "paused": False}
REQUESTS: Mapping[str, Request] = {"swap": SWAP, "pause": {"paused": True}, "resume": {"paused": False}}
"""What each request changes in the control row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRewrite:
    """An unfinished online rewrite: the rows it has copied, its control row, and who works on it.

    `control` is None if a version without that row began it. `runner` is None if no run works on the store.
    """

    leftover: Leftover
    copied: int
    control: Control | None
    runner: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRewrites:
    """The unfinished online rewrites of a store, after the request."""

    store: Store
    database: str
    rewrites: tuple[RunningRewrite, ...]


def rewrites(settings: Settings, interrupt: Interrupt, request: Request | None = None) -> tuple[StoreRewrites, ...]:
    """Return the unfinished rewrites of every store, after the runs that work on them got the request, if any.

    Raises RefusedError if there is nothing that could follow the request.
    """
    with tasks(settings, interrupt) as by_store:
        overviews = looks(by_store)
        found = each(by_store, lambda task: _look(task, overviews[task.store.store]))
        if request is None:
            return tuple(found.values())
        _refuse_without_run(tuple(found.values()))
        each(by_store, lambda task: _request(task, found[task.store.store], request))
        return tuple(each(by_store, lambda task: _look(task, overviews[task.store.store])).values())


def ask_for_cutover(task: StoreTask, plan: Plan) -> None:
    """Ask a run that holds the cutover of this store's rewrite to go on, if that leads no further than the plan."""
    if task.settings.run.hold_cutover:
        return
    unfinished = [found for found in plan.leftovers if found.unfinished and not found.lost]
    for rewrite in (_running(task, leftover) for leftover in unfinished):
        target = parse_version(rewrite.leftover.target)
        if rewrite.runner is None or rewrite.control is None or target is None or target > plan.target:
            continue
        table, runner = rewrite.leftover.table, rewrite.runner
        try:
            control.ask(task.place.conn, rewrite.leftover.name, SWAP)
        except MigratorError as error:
            events.logger().warning("online.swap_refused", table=table, runner=runner, reason=str(error))
        else:
            events.logger().info("online.swap_requested", table=table, runner=runner)


def _look(task: StoreTask, overview: Overview) -> StoreRewrites:
    unfinished = [leftover for leftover in overview.whose.leftovers if leftover.unfinished]
    return StoreRewrites(
        store=task.store.store,
        database=task.store.database,
        rewrites=tuple(_running(task, leftover) for leftover in unfinished),
    )


def _running(task: StoreTask, leftover: Leftover) -> RunningRewrite:
    conn = task.place.conn
    with transactions.look(conn):
        return RunningRewrite(
            leftover=leftover,
            copied=leftovers.copied(conn, leftover),
            control=control.read(conn, leftover.name),
            runner=advisory_lock.holder(conn),
        )


def _refuse_without_run(found: tuple[StoreRewrites, ...]) -> None:
    unfinished = [rewrite for store in found for rewrite in store.rewrites]
    if not unfinished:
        raise RefusedError("no store has an unfinished online rewrite", hint="see schema-migrator status")
    if all(rewrite.runner is None or rewrite.control is None for rewrite in unfinished):
        tables = ", ".join(f'"{rewrite.leftover.table}"' for rewrite in unfinished)
        raise RefusedError(
            f"no run works on the online rewrite of {tables}, expected one that can follow the request",
            hint="schema-migrator migrate resumes it and cuts over; schema-migrator migrate --abandon removes it",
        )


def _request(task: StoreTask, found: StoreRewrites, request: Request) -> None:
    for rewrite in found.rewrites:
        if rewrite.runner is not None and rewrite.control is not None:
            control.ask(task.place.conn, rewrite.leftover.name, request)

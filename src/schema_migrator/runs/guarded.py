"""Transactions of a store in use: they commit only from where the plan starts, under the advisory lock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from schema_migrator.catalog import snapshot
from schema_migrator.diagnosis import state
from schema_migrator.errors import VersionMoved
from schema_migrator.postgres import lock_retries, transactions
from schema_migrator.releases.source import UNVERSIONED
from schema_migrator.runs import version_table

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.snapshot import Change, Key, Snapshot
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.planning.plan import Plan, PlannedStep
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.postgres.transactions import Batch
    from schema_migrator.runs.context import RunContext


def retried(work: RunContext, what: str, tables: Sequence[str], attempt: Callable[[RunContext], None]) -> None:
    """Run a transaction, and again after a growing pause when it could not get its table locks.

    Between tries everything is rolled back, so that no writer queues behind us in the meantime. Raises TableLockTimeout
    at the deadline, which names those who hold the locks.
    """

    def run(seconds: float | None) -> None:
        work.interrupt.check()
        attempt(work if seconds is None else replace(work, queue_seconds=seconds))

    limit = work.settings.run.wait_timeout
    lock_retries.retried(work.conn, work.interrupt, tables, run, seconds=limit, version=what)


@contextmanager
def transaction(work: RunContext, plan: Plan, reached: Version, step: PlannedStep | None = None) -> Iterator[Batch]:
    """Open a transaction that commits only from where the plan starts to the reached version, under the lock."""
    with transactions.transaction(work.conn, plan.schema, work.limits, name=work.lock.worker) as sent:
        overview = state.look(work.conn, work.release, work.store, [plan.schema], lock=True)
        _assert_unmoved(overview, plan, step)
        yield sent
        recorded, held = version_table.ask(sent, plan), work.lock.ask(work.conn)
        version_table.assert_reached(recorded, reached, plan)
        work.lock.assert_held(held)


def _assert_unmoved(overview: Overview, plan: Plan, step: PlannedStep | None) -> None:
    if step is None:
        unmoved, expected = overview.recorded == plan.recorded, plan.recorded
        unmoved = unmoved and (not plan.together or overview.state == plan.state)
    else:
        expected = None if plan.recorded is None and step.previous == UNVERSIONED else step.previous
        unmoved = overview.recorded == expected
    if not unmoved:
        raise VersionMoved(
            f'database "{plan.database}" was at {expected or "no version"}, but is now at {overview.recorded}',
            hint="another tool is migrating it: wait for that to finish, then run this again",
            store=plan.store,
        )


def deviations(conn: Connection, schema: str, touched: Collection[Key], expected: Snapshot) -> str:
    """Return how the touched objects of a schema differ from a snapshot; empty where they do not.

    What an event trigger makes of a plain table, such as row level security, is drift, and no reason to stop.
    """
    change = snapshot.compare(expected, snapshot.take(conn, schema).only(touched))
    different = (one for one in change.different if not _is_attribute(one))
    wrong = [*change.missing, *different, *change.extra]
    return "; ".join(f"{one.key} is {one.found or 'not there'}, expected {one.expected or 'none'}" for one in wrong)


def _is_attribute(change: Change) -> bool:
    return change.key.kind == "table" and change.expected == "" and "PARTITIONED" not in (change.found or "")

"""Guarded transactions on a store: they commit only if the version is as planned and the advisory lock is held."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from schema_migrator.catalog import snapshot
from schema_migrator.diagnosis import state
from schema_migrator.errors import VersionMoved
from schema_migrator.postgres import lock_retries, transactions
from schema_migrator.runs import version_table

if TYPE_CHECKING:
    from schema_migrator.catalog.snapshot import Change, Key, Snapshot
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.postgres.transactions import Batch
    from schema_migrator.runs.context import RunContext
    from schema_migrator.runs.expected import Expected


def retried(work: RunContext, what: str, tables: Sequence[str], attempt: Callable[[RunContext], None]) -> None:
    """Run a transaction, and retry it after a growing pause if it could not get its table locks.

    A failed attempt is rolled back, so that no writer queues behind us during the pause. Raises TableLockTimeout at
    the deadline, naming the sessions that hold the locks.
    """

    def run(seconds: float | None) -> None:
        work.interrupt.check()
        attempt(work if seconds is None else replace(work, queue_seconds=seconds))

    limit = work.settings.run.wait_timeout
    lock_retries.retried(work.conn, work.interrupt, tables, run, seconds=limit, version=what)


@contextmanager
def transaction(work: RunContext, expected: Expected) -> Iterator[Batch]:
    """Open a transaction that commits only if it begins and ends at the versions expected, and holds the lock.

    Raises VersionMoved or LockLost.
    """
    with transactions.transaction(work.conn, expected.schema, work.limits, name=work.lock.worker) as sent:
        overview = state.look(work.conn, work.release, work.store, [expected.schema], lock=True)
        if not expected.met_by(overview):
            raise VersionMoved(
                f'database "{expected.database}" was at {expected.recorded or "no version"}, but is now at'
                f" {overview.recorded}",
                hint="another tool is migrating it: wait for that to finish, then run this again",
                store=work.store.store,
            )
        yield sent
        recorded, held = version_table.ask(sent, expected.database), work.lock.ask(work.conn)
        version_table.assert_reached(recorded, expected, work.store.store)
        work.lock.assert_held(held)


def deviations(conn: Connection, schema: str, touched: Collection[Key], expected: Snapshot) -> str:
    """Return in words how the touched objects of a schema differ from a snapshot; empty if they do not.

    An attribute that an event trigger adds to a plain table, such as row level security, is drift, but no reason to
    stop.
    """
    difference = snapshot.compare(expected, snapshot.take(conn, schema).only(touched))
    different = (change for change in difference.different if not _is_attribute(change))
    wrong = [*difference.missing, *different, *difference.extra]
    return "; ".join(
        f"{change.key} is {change.found or 'not there'}, expected {change.expected or 'none'}" for change in wrong
    )


def _is_attribute(change: Change) -> bool:
    return change.key.kind == "table" and change.expected == "" and "PARTITIONED" not in (change.found or "")

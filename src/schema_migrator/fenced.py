"""Transactions of a store in use: they commit only from where the plan starts, under the advisory lock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import tenacity

from schema_migrator import database, logs, records, snapshot, state
from schema_migrator.errors import TableLockTimeout, VersionMoved
from schema_migrator.source import UNVERSIONED

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.database import Batch, Connection
    from schema_migrator.plan import Plan, PlannedStep
    from schema_migrator.snapshot import Change, Key, Snapshot
    from schema_migrator.state import Sight
    from schema_migrator.work import Work

# Databases that are copies of one another have tables of the same oid.
_HOLDERS = """
SELECT DISTINCT CASE WHEN l.pid IS NULL THEN 'a prepared transaction' ELSE format('pid %%s (%%s%%s)', l.pid,
    coalesce(nullif(a.application_name, ''), 'unnamed'),
    ', open for ' || round(extract(epoch FROM clock_timestamp() - a.xact_start)) || ' s') END
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.locktype = 'relation' AND c.relname = ANY (%s) AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY 1
"""


def retried(work: Work, what: str, tables: Sequence[str], attempt: Callable[[], None]) -> None:
    """Run a transaction, and again after a growing pause when it could not get its table locks.

    Between tries everything is rolled back, so that no writer queues behind us in the meantime.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TableLockTimeout),
        stop=tenacity.stop_after_delay(work.settings.run.wait_timeout)
        | tenacity.stop_when_event_set(work.interrupt.event),
        wait=tenacity.wait_exponential(multiplier=0.2, max=10) + tenacity.wait_random(0, 1),
        sleep=tenacity.sleep_using_event(work.interrupt.event),
        before_sleep=_log_busy(work, what, tables),
        reraise=True,
    )
    retrying(attempt)


def _log_busy(work: Work, what: str, tables: Sequence[str]) -> Callable[[tenacity.RetryCallState], None]:
    def log(retry: tenacity.RetryCallState) -> None:
        holders = database.ask(work.conn, _HOLDERS, [list(tables)])
        logs.logger().info(
            "table.busy",
            version=what,
            tables=list(tables),
            attempt=retry.attempt_number,
            held_by=[holder for (holder,) in holders],
        )

    return log


@contextmanager
def transaction(work: Work, plan: Plan, reached: Version, step: PlannedStep | None = None) -> Iterator[Batch]:
    """Open a transaction that commits only from where the plan starts to the reached version, under the lock."""
    with database.transaction(work.conn, plan.schema, work.limits, name=work.lock.worker) as sent:
        sight = state.look(work.conn, work.release, work.store, [plan.schema], lock=True)
        _assert_unmoved(sight, plan, step)
        yield sent
        recorded, held = records.ask(sent, plan), work.lock.ask(work.conn)
        records.assert_reached(recorded, reached, plan)
        work.lock.assert_held(held)


def _assert_unmoved(sight: Sight, plan: Plan, step: PlannedStep | None) -> None:
    if step is None:
        unmoved, expected = sight.recorded == plan.recorded, plan.recorded
        unmoved = unmoved and (not plan.together or sight.state == plan.state)
    else:
        expected = None if plan.recorded is None and step.previous == UNVERSIONED else step.previous
        unmoved = sight.recorded == expected
    if not unmoved:
        raise VersionMoved(
            f'database "{plan.database}" was at {expected or "no version"}, but is now at {sight.recorded}',
            hint="another tool is migrating it: let that end, then run this again",
            store=plan.store,
        )


def deviations(conn: Connection, schema: str, touched: Collection[Key], expected: Snapshot) -> str:
    """Return how the touched objects of a schema differ from a snapshot; empty where they do not.

    What an event trigger makes of a plain table, such as row level security, is drift, and no reason to stop.
    """
    change = snapshot.compare(expected, snapshot.take(conn, schema).only(touched))
    different = (one for one in change.different if not _is_dress(one))
    wrong = [*change.missing, *different, *change.extra]
    return "; ".join(f"{one.key} is {one.found or 'not there'}, expected {one.expected or 'none'}" for one in wrong)


def _is_dress(change: Change) -> bool:
    return change.key.kind == "table" and change.expected == "" and "PARTITIONED" not in (change.found or "")

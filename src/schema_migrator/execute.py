"""Runs a plan: transactions with their records, and the statements that refuse a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import tenacity
from psycopg import sql

from schema_migrator import autocommit, database, logs, records, snapshot, state
from schema_migrator.errors import NotAsRehearsed, TableLockTimeout, VersionMoved
from schema_migrator.source import UNVERSIONED

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.database import Batch, Connection
    from schema_migrator.plan import Plan, PlannedStep, Proof
    from schema_migrator.snapshot import Snapshot
    from schema_migrator.source import Step
    from schema_migrator.state import Sight
    from schema_migrator.statements import Statement
    from schema_migrator.work import Work

_HOLDERS = """
SELECT DISTINCT l.pid, coalesce(a.application_name, '') FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND c.relname = ANY (%s) AND l.pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A step that was applied, with the seconds it took."""

    version: Version
    seconds: float


def run(work: Work, plan: Plan) -> tuple[Outcome, ...]:
    """Apply the plan's steps and return what was applied.

    Raises TableLockTimeout, StatementFailed, VersionMoved, NotAsRehearsed or LockLost; what was
    committed before stays.
    """
    if plan.together:
        return _run_together(work, plan)
    if plan.adopt is not None:
        adopt(work, plan, plan.adopt)
    return tuple(run_step(work, plan, step) for step in plan.steps)


def _run_together(work: Work, plan: Plan) -> tuple[Outcome, ...]:
    """Install a store whole or not at all."""
    started = time.monotonic()
    with database.translated(work.store, work.interrupt), _transaction(work, plan, plan.target) as sent:
        if plan.setup:
            records.set_up(sent, plan.database)
        for step in plan.steps:
            sent.run(step.statements)
            records.move(sent, plan.database, step.step, step.previous)
    seconds = time.monotonic() - started
    logs.logger().info("schema.installed", version=str(plan.target), steps=len(plan.steps), seconds=round(seconds, 2))
    return tuple(Outcome(version=step.step.version, seconds=seconds / len(plan.steps)) for step in plan.steps)


def adopt(work: Work, plan: Plan, step: Step) -> None:
    """Record the version that the tables are of; no other row is touched."""
    with database.translated(work.store, work.interrupt), _transaction(work, plan, step.version) as sent:
        records.adopt(sent, plan, step)
    logs.logger().warning("version.adopted", recorded=str(plan.recorded), version=str(step.version))


def run_step(work: Work, plan: Plan, step: PlannedStep) -> Outcome:
    """Apply one step and record it; what it raises is what `run` raises."""
    started = time.monotonic()
    for alone, group in groupby(step.statements, lambda one: one.concurrent and step.concurrently):
        statements = tuple(group)
        if alone:
            autocommit.run(work, plan.schema, statements)
        elif step.concurrently:
            _retried(work, plan, step, statements, record=False)
    _retried(work, plan, step, () if step.concurrently else step.statements, record=True)
    seconds = time.monotonic() - started
    logs.logger().info("step.applied", version=str(step.step.version), seconds=round(seconds, 2))
    return Outcome(version=step.step.version, seconds=seconds)


def _retried(work: Work, plan: Plan, step: PlannedStep, statements: tuple[Statement, ...], *, record: bool) -> None:
    """Run a transaction, and again after a growing pause when it could not get its table locks.

    Between tries everything is rolled back, so that no writer queues behind us in the meantime.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TableLockTimeout),
        stop=tenacity.stop_after_delay(work.settings.run.wait_timeout)
        | tenacity.stop_when_event_set(work.interrupt.event),
        wait=tenacity.wait_exponential(multiplier=0.2, max=10) + tenacity.wait_random(0, 1),
        sleep=tenacity.sleep_using_event(work.interrupt.event),
        before_sleep=_log_busy(work, step),
        reraise=True,
    )
    retrying(_run_transaction, work, plan, step, statements, record=record)


def _log_busy(work: Work, step: PlannedStep) -> Callable[[tenacity.RetryCallState], None]:
    def log(retry: tenacity.RetryCallState) -> None:
        tables = [lock.table for lock in step.locks]
        holders = work.conn.execute(_HOLDERS, [tables]).fetchall()
        logs.logger().info(
            "table.busy",
            version=str(step.step.version),
            tables=tables,
            attempt=retry.attempt_number,
            held_by=[f"pid {pid} ({application})" for pid, application in holders],
        )

    return log


def _run_transaction(
    work: Work, plan: Plan, step: PlannedStep, statements: tuple[Statement, ...], *, record: bool
) -> None:
    first = step is plan.steps[0] or step.previous == UNVERSIONED
    setup = plan.setup and first
    with (
        database.translated(work.store, work.interrupt),
        _transaction(work, plan, step.step.version if record else step.previous, step) as sent,
    ):
        if setup and record:
            records.set_up(sent, plan.database)
        if statements:
            _lock_tables(sent, step)
            _assert_start(work.conn, step, statements)
            sent.run(statements)
        if record:
            _assert_end(work.conn, step)
            records.move(sent, plan.database, step.step, step.previous)


@contextmanager
def _transaction(work: Work, plan: Plan, reached: Version, step: PlannedStep | None = None) -> Iterator[Batch]:
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


def _assert_start(conn: Connection, step: PlannedStep, statements: tuple[Statement, ...]) -> None:
    """See, under the tables' locks, that a step starts where the plan says: another tool may have begun it."""
    if step.proof is None or statements[:1] != step.statements[:1]:
        return
    wrong = deviations(conn, step.proof, step.proof.start)
    if wrong:
        raise NotAsRehearsed(
            f"step {step.step.version} does not start as the plan says and was left alone: {wrong}",
            hint="if another tool is at work let that end, then run this again; else see schema-migrator verify",
        )


def _assert_end(conn: Connection, step: PlannedStep) -> None:
    wrong = deviations(conn, step.proof, step.proof.end) if step.proof else ""
    if wrong:
        raise NotAsRehearsed(
            f"step {step.step.version} does not end as its rehearsal did and was rolled back: {wrong}",
            hint="see schema-migrator verify for what is special about this database",
        )


def deviations(conn: Connection, proof: Proof, expected: Snapshot) -> str:
    """Return how what a step touches differs from a snapshot; empty where it does not."""
    change = snapshot.compare(expected, snapshot.take(conn).only(proof.touched))
    wrong = [*change.missing, *change.different, *change.extra]
    return "; ".join(f"{one.key} is {one.found or 'not there'}, expected {one.expected or 'none'}" for one in wrong)


def _lock_tables(sent: Batch, step: PlannedStep) -> None:
    for mode, locks in groupby(sorted(step.locks, key=lambda lock: lock.mode), lambda lock: lock.mode):
        names = sql.SQL(", ").join(sql.Identifier(lock.table) for lock in locks)
        word = sql.SQL("SHARE" if mode == "SHARE" else "ACCESS EXCLUSIVE")
        sent.send(sql.SQL("LOCK TABLE {} IN {} MODE").format(names, word))

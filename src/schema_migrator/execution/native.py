"""The native executor: runs each step in a transaction that also records its version.

Statements that need to run outside a transaction are in `concurrent_indexes`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from psycopg import sql

from schema_migrator import events
from schema_migrator.catalog.namesakes import shielded
from schema_migrator.errors import NotAsRehearsed
from schema_migrator.execution import concurrent_indexes
from schema_migrator.online import rewrite
from schema_migrator.postgres import server_errors
from schema_migrator.releases.source import UNVERSIONED
from schema_migrator.runs import expected, version_table
from schema_migrator.runs.guarded import deviations, retried, transaction
from schema_migrator.runs.handover import handed_over

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from packaging.version import Version

    from schema_migrator.planning.plan import Online, Plan, PlannedStep
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.postgres.transactions import Batch
    from schema_migrator.releases.source import Step
    from schema_migrator.releases.statements import Statement
    from schema_migrator.runs.context import RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A step that was applied, with the seconds that it took; steps that ran together share their time equally."""

    version: Version
    seconds: float


def run(work: RunContext, plan: Plan) -> tuple[Outcome, ...]:
    """Apply the plan's steps, and return what was applied.

    Raises TableLockTimeout, StatementFailed, VersionMoved, NotAsRehearsed or LockLost. What was
    committed before the error stays.
    """
    if plan.together:
        return _install(work, plan)
    if plan.adopt is not None:
        adopt(work, plan, plan.adopt)
    outcomes: list[Outcome] = []
    for together, group in groupby(plan.steps, lambda step: step.online):
        steps = tuple(group)
        if together and plan.online is not None:
            outcomes += _run_online(work, plan, plan.online, steps)
        else:
            outcomes += [run_step(work, plan, step) for step in steps]
    return tuple(outcomes)


def _run_online(work: RunContext, plan: Plan, online: Online, steps: tuple[PlannedStep, ...]) -> list[Outcome]:
    started = time.monotonic()
    rewrite.run(work, expected.of_step(plan, steps[0], steps[-1].step.version), online, steps)
    seconds = time.monotonic() - started
    events.logger().info(
        "steps.applied", version=str(steps[-1].step.version), steps=len(steps), seconds=round(seconds, 2)
    )
    return [Outcome(version=step.step.version, seconds=seconds / len(steps)) for step in steps]


def _install(work: RunContext, plan: Plan) -> tuple[Outcome, ...]:
    """Install a store in one transaction: completely, or not at all."""
    started = time.monotonic()
    tables = sorted(work.release.source(plan.store).tables)
    retried(work, str(plan.target), tables, partial(_run_together, plan=plan))
    seconds = time.monotonic() - started
    events.logger().info("schema.installed", version=str(plan.target), steps=len(plan.steps), seconds=round(seconds, 2))
    return tuple(Outcome(version=step.step.version, seconds=seconds / len(plan.steps)) for step in plan.steps)


def _run_together(work: RunContext, plan: Plan) -> None:
    with (
        server_errors.translated(work.store, work.interrupt),
        transaction(work, expected.of_plan(plan, plan.target)) as sent,
        handed_over(work.conn, plan.schema, plan.heir),
    ):
        if plan.setup:
            version_table.set_up(sent, plan.database)
        with _shielded(work, plan, [statement for step in plan.steps for statement in step.statements]):
            for step in plan.steps:
                sent.run(step.statements)
                version_table.move(sent, plan.database, step.step, step.previous)


def adopt(work: RunContext, plan: Plan, step: Step) -> None:
    """Record the version that the tables match; no other version row changes."""
    start = expected.of_plan(plan, step.version)
    with (
        server_errors.translated(work.store, work.interrupt),
        transaction(work, start) as sent,
        handed_over(work.conn, plan.schema, plan.heir),
    ):
        version_table.adopt(sent, start, step)
    events.logger().warning("version.adopted", recorded=str(plan.recorded), version=str(step.version))


def run_step(work: RunContext, plan: Plan, step: PlannedStep) -> Outcome:
    """Apply one step and record it. Raises what `run` raises."""
    started = time.monotonic()
    groups = [(alone, tuple(group)) for alone, group in groupby(step.statements, partial(_runs_alone, step))]
    last = () if not groups or groups[-1][0] else groups.pop()[1]
    for alone, statements in groups:
        if alone:
            concurrent_indexes.run(work, plan.schema, statements)
        else:
            _run_patiently(work, plan, step, statements, record=False)
    _run_patiently(work, plan, step, last, record=True)
    seconds = time.monotonic() - started
    events.logger().info("step.applied", version=str(step.step.version), seconds=round(seconds, 2))
    return Outcome(version=step.step.version, seconds=seconds)


def _runs_alone(step: PlannedStep, statement: Statement) -> bool:
    return step.concurrently and (statement.concurrent or statement.enum_value)


def _run_patiently(
    work: RunContext, plan: Plan, step: PlannedStep, statements: tuple[Statement, ...], *, record: bool
) -> None:
    tables = [lock.table for lock in step.locks]
    attempt = partial(_run_transaction, plan=plan, step=step, statements=statements, record=record)
    retried(work, str(step.step.version), tables, attempt)


def _run_transaction(
    work: RunContext, plan: Plan, step: PlannedStep, statements: tuple[Statement, ...], *, record: bool
) -> None:
    first = step is plan.steps[0] or step.previous == UNVERSIONED
    setup = plan.setup and first
    reached = step.step.version if record else step.previous
    with (
        server_errors.translated(work.store, work.interrupt),
        transaction(work, expected.of_step(plan, step, reached)) as sent,
        handed_over(work.conn, plan.schema, plan.heir),
    ):
        if setup and record:
            version_table.set_up(sent, plan.database)
        if statements:
            _lock_tables(sent, step)
            _assert_start(work.conn, plan.schema, step, statements)
            with _shielded(work, plan, statements):
                sent.run(statements)
        if record:
            _assert_end(work.conn, plan.schema, step)
            version_table.move(sent, plan.database, step.step, step.previous)


def _shielded(work: RunContext, plan: Plan, statements: Sequence[Statement]) -> AbstractContextManager[None]:
    return shielded(work.conn, plan.schema, work.release.source(plan.store).tables, statements)


def _assert_start(conn: Connection, schema: str, step: PlannedStep, statements: tuple[Statement, ...]) -> None:
    """Raise NotAsRehearsed if a step, under its locks, does not start as planned: another tool may have started it."""
    if step.proof is None or statements[:1] != step.statements[:1]:
        return
    wrong = deviations(conn, schema, step.proof.touched, step.proof.start)
    if wrong:
        raise NotAsRehearsed(
            f"step {step.step.version} does not start from what the plan expects and was not run: {wrong}",
            hint="if another tool is at work, wait for it to finish and run this again; otherwise see"
            " schema-migrator verify",
        )


def _assert_end(conn: Connection, schema: str, step: PlannedStep) -> None:
    wrong = deviations(conn, schema, step.proof.touched, step.proof.end) if step.proof else ""
    if wrong:
        raise NotAsRehearsed(
            f"step {step.step.version} ended differently from its rehearsal and was rolled back: {wrong}",
            hint="see schema-migrator verify for how this database differs",
        )


def _lock_tables(sent: Batch, step: PlannedStep) -> None:
    for mode, locks in groupby(sorted(step.locks, key=lambda lock: lock.mode), lambda lock: lock.mode):
        names = sql.SQL(", ").join(sql.Identifier(sent.schema, lock.table) for lock in locks)
        word = sql.SQL("SHARE" if mode == "SHARE" else "ACCESS EXCLUSIVE")
        sent.send(sql.SQL("LOCK TABLE {} IN {} MODE").format(names, word))

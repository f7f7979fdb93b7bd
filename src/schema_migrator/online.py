"""The online rewrite: a table in its new structure beside the old one, filled while everybody works, then swapped.

As pg_repack does it (https://reorg.github.io/pg_repack): a trigger logs the keys that change, rows are copied in
batches, indexes are built where nobody waits for them, and the log is replayed from the live rows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from psycopg import sql

from schema_migrator import (
    conditions,
    copying,
    crew,
    database,
    fenced,
    fits,
    functions,
    indexes,
    logs,
    proof,
    replay,
    shadow,
    swap,
    traces,
)
from schema_migrator.errors import NoSpace, NotAsRehearsed, StatementFailed, TableChanged, TableLockTimeout
from schema_migrator.traces import LEFTOVERS, ROWS

if TYPE_CHECKING:
    from schema_migrator.crew import Crew
    from schema_migrator.database import Connection
    from schema_migrator.plan import Online, Plan, PlannedStep
    from schema_migrator.reshape import Shape
    from schema_migrator.shadow import Live
    from schema_migrator.swap import Readers
    from schema_migrator.traces import Leftover
    from schema_migrator.work import Work

_FIND = f"SELECT {LEFTOVERS}"


def run(work: Work, plan: Plan, online: Online, steps: Sequence[PlannedStep]) -> float:
    """Write the table anew and record the steps; return the seconds that its lock was held.

    What can be carried on with is left for the next run; after TableChanged, NotAsRehearsed and NoSpace
    not a trace is left. Raises those and what is retryable.
    """
    try:
        with crew.gathered(work) as those:
            live = _begin(work, those, plan, online, steps)
            columns = shadow.columns(work.conn, live, _shape(online), computed=False)
            with _named_rows(those, live, online):
                old = _fill(those, live, online, columns)
                _settle(work, those, live, online, columns, old)
                locked = _swap(those, plan, online, steps, live, columns)
    except (TableChanged, NotAsRehearsed, NoSpace):
        abandon(work, plan.schema)
        raise
    tidy(work, plan.schema)
    return locked


def find(conn: Connection, schema: str) -> tuple[Leftover, ...]:
    """Return what online rewrites have left for the tables of a schema."""
    row = conn.execute(_FIND).fetchone()
    return traces.leftovers(row[0] if row else (), schema)


def abandon(work: Work, schema: str, *, kept: bool = False) -> tuple[Leftover, ...]:
    """Remove what is unfinished, and what a finished rewrite left; with `kept` also what was to be kept."""
    return _remove(work, [one for one in find(work.conn, schema) if kept or not one.kept])


def clear(work: Work, plan: Plan) -> None:
    """Remove, before a plan runs, what earlier rewrites left and this one does not carry on with.

    Says why a large table is to be written anew in place.
    """
    if plan.online and plan.online.hindrances:
        logs.logger().warning("online.hindered", table=plan.online.table, because=list(plan.online.hindrances))
    going_on = plan.online.table if plan.online and plan.online.shape else None
    _remove(work, [one for one in plan.leftovers if not one.kept and (one.finished or one.table != going_on)])


def tidy(work: Work, schema: str) -> tuple[Leftover, ...]:
    """Remove what a finished rewrite has no more use for. What is in use just now is left for the next run."""
    done = [one for one in find(work.conn, schema) if one.finished and not one.kept]
    try:
        return _remove(work, done)
    except TableLockTimeout as error:
        logs.logger().warning("online.left", schemas=[one.name for one in done], reason=error.message)
        return ()


def _remove(work: Work, those: Sequence[Leftover]) -> tuple[Leftover, ...]:
    for one in those:
        fenced.retried(work, one.target, [one.table], partial(_remove_one, work, one))
        logs.logger().info("online.removed", schema=one.name, table=one.table)
    return tuple(those)


def _remove_one(work: Work, one: Leftover) -> None:
    with (
        database.translated(work.store, work.interrupt),
        database.transaction(work.conn, one.schema, work.limits, name=work.lock.worker),
    ):
        traces.remove(work.conn, one)
        work.lock.assert_held(work.lock.ask(work.conn))


def _begin(work: Work, those: Crew, plan: Plan, online: Online, steps: Sequence[PlannedStep]) -> Live:
    """Carry on with what an earlier run has begun, or begin."""
    with database.transaction(work.conn, plan.schema, work.limits, name=work.lock.worker):
        live = shadow.look(work.conn, plan.schema, _shape(online))
        mine = [one for one in find(work.conn, plan.schema) if not one.finished]
        whole = live is not None and any(shadow.continues(work.conn, live, one) for one in mine)
    if live and whole:
        return live
    _remove(work, mine)
    conditions.check(work, online)
    if live:
        functions.check(work, plan, online, live)
        fits.check(those, live, online)
    begun: list[Live] = []
    attempt = partial(_make, work, plan, online, steps, begun)
    fenced.retried(work, str(online.versions[-1]), [online.table], attempt)
    logs.logger().info("online.begun", table=online.table, bytes=online.size, target=str(online.versions[-1]))
    return begun[-1]


def _make(work: Work, plan: Plan, online: Online, steps: Sequence[PlannedStep], begun: list[Live]) -> None:
    """Make the shadow, and last the trigger: it locks the table against writers until the commit, a moment later."""
    shape, conn = _shape(online), work.conn
    with (
        database.translated(work.store, work.interrupt),
        fenced.transaction(work, plan, steps[0].previous, steps[0]),
    ):
        live = shadow.look(conn, plan.schema, shape)
        if live is None:
            raise TableChanged(f'the table "{online.table}" is gone', hint="see schema-migrator status")
        shadow.build(conn, live, online, shape)
        indexes.rehearse(conn, work.store, live, shape)
        shadow.watch(conn, live)
        swap.assert_same(conn, live, shape)
        wrong = fenced.deviations(conn, plan.schema, shape.touched, shape.start)
        if wrong:
            raise NotAsRehearsed(
                f'the table "{online.table}" is not as the plan says and was left alone: {wrong}',
                hint="if another tool is at work let that end, then run this again; else see schema-migrator verify",
            )
    begun.append(live)


@contextmanager
def _named_rows(those: Crew, live: Live, online: Online) -> Iterator[None]:
    """Look for the row where PostgreSQL refuses a value that was written after the rows had been checked."""
    try:
        yield
    except StatementFailed as error:
        if fits.of_values(error.__cause__):
            fits.check(replace(those, failed=threading.Event()), live, online, begun=True)
        raise


def _fill(those: Crew, live: Live, online: Online, columns: Sequence[str]) -> Readers:
    """Copy all rows, then build the indexes; return the transactions to which the rows may be too new."""
    started = time.monotonic()
    rows = copying.fill(those, live, columns)
    old = swap.readers(those.work.conn)
    logs.logger().info("online.copied", table=live.table, rows=rows, seconds=round(time.monotonic() - started, 1))
    indexes.build(those, live, _shape(online))
    return old


def _settle(work: Work, those: Crew, live: Live, online: Online, columns: Sequence[str], old: Readers) -> None:
    """Catch up with the writers, and let the new table be as fit as a table is that has been in use for long."""
    replay.drain(those, live, columns)
    _vacuum(those, live)
    proof.prove(those, live, _shape(online))
    swap.await_readers(work, live, old)


def _vacuum(those: Crew, live: Live) -> None:
    conn, limits = those.conns[0], database.Limits(table_lock=0, statement=0)
    with database.session(conn, limits, name=those.work.lock.worker):
        conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(live.ours, ROWS)))


def _swap(
    those: Crew, plan: Plan, online: Online, steps: Sequence[PlannedStep], live: Live, columns: Sequence[str]
) -> float:
    locked: list[float] = []

    def attempt() -> None:
        with database.translated(those.work.store, those.work.interrupt):
            replay.drain(those, live, columns)
        locked.append(swap.swap(those.work, plan, online, steps, live, columns))

    fenced.retried(those.work, str(online.versions[-1]), [online.table], attempt)
    logs.logger().info("online.swapped", table=online.table, locked_seconds=round(locked[-1], 3))
    return locked[-1]


def _shape(online: Online) -> Shape:
    assert online.shape is not None  # noqa: S101 - a plan has no online steps without
    return online.shape

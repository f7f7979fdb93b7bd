"""The wait for the moment of the cutover: --hold-cutover waits for a request, --cutover-window for its hours.

In the meantime changes are replayed and the replayed rows proven, so that the cutover can follow at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from schema_migrator import events
from schema_migrator.concurrency import polls
from schema_migrator.errors import CutoverNotRequested, PreflightFailed
from schema_migrator.online import control, replay_proof
from schema_migrator.online.throttle import KEPT
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import time

    from schema_migrator.config.fields import RunSettings
    from schema_migrator.config.windows import Window
    from schema_migrator.online.control import Control
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext

SWAP = "schema-migrator rewrite swap"
"""The command that asks for the cutover."""
_PAUSE_SECONDS = 0.5
_NOW = "SELECT (clock_timestamp() AT TIME ZONE %s::text)::time"


def assert_zone(work: RunContext) -> None:
    """Raise PreflightFailed if PostgreSQL does not know the time zone of the cutover window."""
    window = work.settings.run.cutover_window
    if window is None:
        return
    try:
        _now(work.conn, window)
    except psycopg.DataError as error:
        raise PreflightFailed(
            f'PostgreSQL does not know the time zone "{window.zone}" of --cutover-window',
            hint="see pg_timezone_names; nothing was changed",
        ) from error


def hold(pool: WorkerPool, live: SourceTable, shape: TargetShape, drain: Callable[[], None]) -> None:
    """Return as soon as the cutover may begin. Until then call `drain` again and again, and prove what it replayed.

    Raises CutoverNotRequested at the deadline.
    """
    run = pool.work.settings.run
    if not run.hold_cutover and run.cutover_window is None:
        return
    beat, told = pool.beat(), False
    pool.enter(live, control.HOLDING)
    for poll in polls(pool.work.interrupt, limit=run.hold_timeout, pause=_PAUSE_SECONDS):
        reason = _released(pool.conns[0], live, run)
        if reason:
            events.logger().info("online.released", table=live.table, reason=reason, seconds=round(poll.seconds, 1))
            return
        if poll.late:
            raise CutoverNotRequested(
                f'nobody asked for the cutover of "{live.table}" within {run.hold_timeout:g} s (--hold-timeout)',
                hint=f"run it again: it resumes; {KEPT}",
            )
        if not told or beat.due():
            told = True
            events.logger().info(
                "online.holding",
                table=live.table,
                until=until(run),
                seconds=round(poll.seconds),
                limit=run.hold_timeout,
            )
        drain()
        replay_proof.prove(pool, live, shape)


def until(run: RunSettings) -> str:
    """Return in words what ends the wait."""
    asked = f"somebody runs {SWAP} or migrate"
    return f"{run.cutover_window}, or {asked}" if run.cutover_window else asked


def _released(conn: Connection, live: SourceTable, run: RunSettings) -> str:
    """Return why the cutover may begin; empty if it may not."""
    with transactions.look(conn):
        asked = control.read(conn, live.ours)
    now = _now(conn, run.cutover_window) if run.cutover_window else None
    return reason_of(asked, run.cutover_window, now)


def reason_of(asked: Control | None, window: Window | None, now: time | None) -> str:
    """Return why the cutover may begin, given the control row, the window and the time in it; empty if it may not."""
    if asked is not None and asked.swap:
        return "somebody asked for it"
    if window is not None and now is not None and window.contains(now):
        return f"the window {window} is open"
    return ""


def _now(conn: Connection, window: Window) -> time:
    ((now,),) = transactions.ask(conn, _NOW, [window.zone])
    found: time = now
    return found

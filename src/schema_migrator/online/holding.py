"""The wait for the moment of the cutover: --hold-cutover waits for a request, --cutover-window for its hours.

In the meantime changes are replayed and the replayed rows proven, so that the cutover can follow at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.concurrency import polls
from schema_migrator.errors import CutoverNotRequested, ServerBusy, SettingsError, TableLockTimeout
from schema_migrator.online import control, cutover, replay, replay_proof, throttle
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from schema_migrator.config.fields import RunSettings
    from schema_migrator.config.windows import Window
    from schema_migrator.online.control import Control
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection

_PAUSE_SECONDS = 0.5
_VACUUM_SECONDS = 60
_NOW = "SELECT (clock_timestamp() AT TIME ZONE %s::text)::time"
# AT TIME ZONE takes any word as a zone in POSIX notation: Europe/Berlin2 would be two hours west of Greenwich.
_KNOWN = "SELECT FROM pg_catalog.pg_timezone_names WHERE lower(name) = lower(%s)"


def assert_zone(conn: Connection, run: RunSettings) -> None:
    """Raise SettingsError if PostgreSQL does not know the time zone of the cutover window."""
    window = run.cutover_window
    if window is not None and not transactions.ask(conn, _KNOWN, [window.zone]):
        raise SettingsError(
            f'--cutover-window: PostgreSQL does not know the time zone "{window.zone}"',
            hint="pg_timezone_names lists those that it knows",
        )


def hold(
    pool: WorkerPool, live: SourceTable, shape: TargetShape, drain: Callable[[], None], compare: Callable[[], None]
) -> None:
    """Return as soon as the cutover may begin. Until then replay changes with `drain`, and prove what was replayed.

    `compare` raises if the table is no longer what was copied. Raises CutoverNotRequested at the deadline.
    """
    run = pool.work.settings.run
    if not holds(run):
        return
    beat, vacuumed = events.Interval(seconds=run.heartbeat, at_once=True), time.monotonic()
    prove = replay_proof.prepare(pool, live, shape)
    pool.enter(live, control.HOLDING)
    for poll in polls(pool.work.interrupt, limit=run.hold_timeout, pause=_PAUSE_SECONDS):
        asked, reason = _look(pool, live)
        if reason:
            drain()
            cutover.await_old_snapshots(pool.work, live, drain)
            prove()
            events.logger().info("online.released", table=live.table, reason=reason, seconds=round(poll.seconds, 1))
            return
        if poll.late:
            raise _nobody(live, run)
        paused, due = asked is not None and asked.paused, beat.due()
        if due:
            _tell(live, run, poll.seconds, paused=paused)
        if not paused:
            _keep_up(pool, live, drain)
            prove()
            if due:
                compare()
        if time.monotonic() - vacuumed > _VACUUM_SECONDS:
            replay.vacuum(pool, live)
            vacuumed = time.monotonic()


def assert_wanted(pool: WorkerPool, live: SourceTable) -> None:
    """Raise CutoverNotRequested if the moment of the cutover has passed, or was withdrawn, since `hold` returned."""
    run = pool.work.settings.run
    if holds(run) and not _look(pool, live)[1]:
        raise _nobody(live, run)


def holds(run: RunSettings) -> bool:
    """Return whether a run with these settings waits for the moment of the cutover."""
    return run.hold_cutover or run.cutover_window is not None


def _nobody(live: SourceTable, run: RunSettings) -> CutoverNotRequested:
    window = f", and the window {run.cutover_window} did not open" if run.cutover_window else ""
    return CutoverNotRequested(
        f'nobody asked for the cutover of "{live.table}" within {run.hold_timeout:g} s (--hold-timeout){window}',
        hint=f"run it again: it resumes; {throttle.KEPT}",
    )


def _tell(live: SourceTable, run: RunSettings, seconds: float, *, paused: bool) -> None:
    if paused:
        events.logger().info("online.paused", reason=throttle.PAUSED, seconds=round(seconds), limit=run.hold_timeout)
        return
    events.logger().info(
        "online.holding", table=live.table, until=until(run), seconds=round(seconds), limit=run.hold_timeout
    )


def _keep_up(pool: WorkerPool, live: SourceTable, drain: Callable[[], None]) -> None:
    """Replay changes. A server that is too busy for that does not end the wait."""
    try:
        drain()
    except (ServerBusy, TableLockTimeout) as error:
        pool.throttle.forgive()
        events.logger().warning("online.behind", table=live.table, reason=error.message)


def until(run: RunSettings) -> str:
    """Return in words what ends the wait."""
    asked = "somebody runs schema-migrator rewrite swap or migrate"
    return f"{run.cutover_window}, or {asked}" if run.cutover_window else asked


def reason_of(asked: Control | None, window: Window | None, now: dt.time | None) -> str:
    """Return why the cutover may begin, given the control row, the window and the time in it; empty if it may not."""
    if asked is not None and asked.swap:
        return "somebody asked for it"
    if asked is not None and asked.paused:
        return ""
    if window is not None and now is not None and window.contains(now):
        return f"the window {window} is open"
    return ""


def _look(pool: WorkerPool, live: SourceTable) -> tuple[Control | None, str]:
    """Return what people ask of the run, and why the cutover may begin, empty if it may not.

    Raises NoSpace if the change log is larger than its limit.
    """
    conn, window = pool.conns[0], pool.work.settings.run.cutover_window
    with transactions.look(conn):
        pool.throttle.limit_log(conn)
        asked = control.read(conn, live.ours)
        now = conn.execute(_NOW, [window.zone]).fetchone() if window else None
    return asked, reason_of(asked, window, now[0] if now else None)

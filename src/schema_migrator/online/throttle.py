"""The throttle of an online rewrite: pauses it while one of its budgets is exceeded.

It lets fewer workers work while commits are slow, waits while somebody has paused the rewrite, and stops it if the disk
has too little space or the change log is too large. The checks before the start are in `prechecks`.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.catalog.leftovers import ROWS
from schema_migrator.concurrency import polls
from schema_migrator.config import sizes
from schema_migrator.errors import MigratorError, NoSpace, PreflightFailed, ServerBusy
from schema_migrator.online import budgets, control, disk
from schema_migrator.postgres import session_settings, transactions

if TYPE_CHECKING:
    from schema_migrator.online.budgets import Reading
    from schema_migrator.online.control import Control
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.tuning import Tuner
    from schema_migrator.planning.plan import Online
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext

_PAUSE_SECONDS = 1.0
_DISK_SECONDS = 60.0
KEPT = (
    "the copy so far is kept, the table's trigger logs changes, and the next run resumes;"
    " migrate --abandon removes both"
)
"""The state after a failure that does not remove an unfinished rewrite."""

PAUSED = "somebody has paused it; schema-migrator rewrite resume continues it"
_SIZE = "SELECT coalesce(pg_total_relation_size(to_regclass(%s)), 0)::bigint"


@dataclass(slots=True, kw_only=True)
class Throttle:
    """Decides when to pause, for all workers of a pool, and how many of them may work (`allowed`).

    It asks the server at most once a second, and about its disk at most once a minute. `tuner`: how many workers there
    are if nothing brakes. `heeds_pause`: it waits while somebody has paused the rewrite.
    """

    work: RunContext
    online: Online
    live: SourceTable
    tuner: Tuner
    heeds_pause: bool = True
    _quick: int = field(init=False)
    _asked_for: int | None = None
    _commit_seconds: float | None = None
    _log_bytes: int = 0
    _beat: events.Interval = field(init=False)
    _told: int = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _asked: float = 0.0
    _weighed: float = 0.0
    _had: int | None = None
    _failure: MigratorError | None = None

    def __post_init__(self) -> None:
        self._quick = self.tuner.most
        self._beat = events.Interval(seconds=self.work.settings.run.heartbeat, at_once=True)
        self._told = self.allowed

    @property
    def allowed(self) -> int:
        """How many workers may work, at least one."""
        return min(self.tuner.workers, self._quick, self._asked_for or self._quick)

    @property
    def brake(self) -> str:
        """Why fewer workers may work than could; empty if none is held back."""
        if self._asked_for is not None and self._asked_for < min(self.tuner.workers, self._quick):
            return f"somebody asked for at most {self._asked_for}"
        if self._quick < self.tuner.workers:
            limit = self.work.settings.run.max_commit_seconds
            return (
                f"a small commit takes {self._commit_seconds or 0:.2g} s, the limit is {limit:g} s; more connections"
                " work again below half of it"
            )
        return ""

    def keep(self, conn: Connection) -> None:
        """Return as soon as work may continue.

        Raises ServerBusy, or PreflightFailed if a retry is of no use, if work may not continue before the deadline.
        Raises NoSpace or Stopped.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if time.monotonic() - self._asked < _PAUSE_SECONDS:
                return
            try:
                asked = self._await_resume(conn)
                self._await(conn)
                self._adapt(conn, asked)
            except MigratorError as error:  # ends all workers: otherwise each would wait again
                self._failure = error
                raise
            self._asked = time.monotonic()

    def forgive(self) -> None:
        """Forget a failure: whoever called `keep` goes on in spite of it."""
        self._failure = None

    def _await_resume(self, conn: Connection) -> Control | None:
        """Wait while somebody has paused the rewrite, however long that is; return what people ask of it."""
        beat = events.Interval(seconds=self.work.settings.run.heartbeat, at_once=True)
        for poll in polls(self.work.interrupt, limit=math.inf, pause=_PAUSE_SECONDS):
            with self._transaction(conn):
                asked = control.read(conn, self.live.ours)
                self.limit_log(conn)
            if asked is None or not asked.paused or not self.heeds_pause:
                return asked
            if beat.due():
                events.logger().info("online.paused", reason=PAUSED, seconds=round(poll.seconds), limit=None)
        return None

    def limit_log(self, conn: Connection) -> None:
        """Raise NoSpace if the change log is larger than its limit; in an open transaction."""
        limit = self.work.settings.run.max_change_log
        self._log_bytes = size = self._size(conn, "log")
        if limit is not None and size > limit:
            raise NoSpace(
                f'the change log of "{self.live.table}" has {sizes.text(size)}, the limit is {sizes.text(limit)}',
                hint="the copy was removed, and the table is unchanged; run this again at a quieter time, or raise"
                " --max-change-log",
            )

    def _await(self, conn: Connection) -> None:
        run = self.work.settings.run
        beat = events.Interval(seconds=run.heartbeat, at_once=True)
        for poll in polls(self.work.interrupt, limit=run.wait_timeout, pause=_PAUSE_SECONDS):
            reason = self._look(conn)
            if reason is None:
                return
            if poll.late:
                raise reason
            if beat.due():
                events.logger().info(
                    "online.paused", reason=reason.message, seconds=round(poll.seconds), limit=run.wait_timeout
                )

    def _look(self, conn: Connection) -> MigratorError | None:
        """Return the reason to pause, as the error to raise at the deadline; None if there is none."""
        with self._transaction(conn):
            self._weigh(conn)
            found = budgets.read(conn, self.work.settings.run)
        self._tell(found)
        return self._judge(found)

    def _tell(self, found: Reading) -> None:
        """Log at each heartbeat what has been used of the budgets."""
        run = self.work.settings.run
        if self._beat.due():
            events.logger().debug(
                "online.budgets",
                table=self.live.table,
                **budgets.figures(run, found),
                commit_seconds=self._commit_seconds,
                commit_seconds_limit=run.max_commit_seconds or None,
                change_log=self._log_bytes,
                change_log_limit=run.max_change_log,
            )

    def _transaction(self, conn: Connection) -> AbstractContextManager[object]:
        limits = session_settings.Limits(table_lock=self.work.settings.run.wait_timeout, statement=0)
        return transactions.transaction(conn, None, limits, name=self.work.lock.worker)

    def _judge(self, found: Reading) -> MigratorError | None:
        run = self.work.settings.run
        if (reason := budgets.busy(run, found) or budgets.exceeded(run, found)) is not None:
            return ServerBusy(reason.said, hint=f"{KEPT}; {reason.remedy}")
        if (reason := budgets.unseen(run, found)) is not None:
            return PreflightFailed(reason.said, hint=f"{reason.remedy}; {KEPT}")
        return None

    def _adapt(self, conn: Connection, asked: Control | None) -> None:
        """Let fewer workers work if somebody asks for that or a small commit takes long, and more if not."""
        limit = self.work.settings.run.max_commit_seconds
        self._asked_for = asked.jobs if asked else None
        if limit:
            self._commit_seconds = taken = self._commit(conn)
            now = min(self._quick, self.tuner.workers)
            self._quick = budgets.workers(now, self.tuner.most, taken, limit)
        if self.allowed != self._told:
            self._told = self.allowed
            seconds = round(self._commit_seconds or 0, 3)
            events.logger().info(
                "online.workers", allowed=self._told, brake=self.brake or None, commit_seconds=seconds, limit=limit
            )

    def _commit(self, conn: Connection) -> float:
        """Return the seconds of a small commit."""
        limits, started = session_settings.Limits(table_lock=0, statement=0), time.monotonic()
        with transactions.transaction(conn, None, limits, name=self.work.lock.worker):
            conn.execute(transactions.WRITE_WAL)
        return time.monotonic() - started

    def _weigh(self, conn: Connection) -> None:
        """Raise NoSpace if the disk has too little space for what remains to be written."""
        said = self.work.settings.run.disk_free
        if said is None or (self._weighed and time.monotonic() - self._weighed < _DISK_SECONDS):
            return
        written = self._size(conn, ROWS)
        if self._had is None:
            self._had = written
        # The operator stated the free space before the run; we assume that only this run has used it since.
        try:
            free = disk.look(conn, said if said == "df" else max(said - (written - self._had), 0))
        except PreflightFailed as error:
            error.hint += f"; {KEPT}"
            raise
        lacking = disk.lacking(disk.need(self.online).left(written), free) if free else ""
        if lacking:
            raise NoSpace(
                f'{lacking} of "{self.live.table}" as far as it is still to be done',
                hint="free disk space, then run this again; the copy was removed, and the table is unchanged",
            )
        self._weighed = time.monotonic()

    def _size(self, conn: Connection, table: str) -> int:
        """Return the bytes of a table of the rewrite with its indexes, 0 if it does not exist yet."""
        ((size,),) = conn.execute(_SIZE, [f"{self.live.ours}.{table}"]).fetchall()
        return int(size)

"""The worker connections of an online rewrite, as many as the server affords. When they pause is in `throttle`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import errors

from schema_migrator import events
from schema_migrator.concurrency import run_parallel
from schema_migrator.errors import DatabaseUnavailable, SeveralErrors, StatementTimeout, TokenUnavailable, gravest
from schema_migrator.online import control
from schema_migrator.online.progress import Progress
from schema_migrator.postgres import connection, pooler, server_errors, session_settings, transactions

if TYPE_CHECKING:
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.throttle import Throttle
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.postgres.transactions import Batch
    from schema_migrator.runs.context import RunContext

T = TypeVar("T")

_MOST = 16
"""Nobody has measured a rewrite with more workers; --jobs opens as many as it says."""
_CANCEL_SECONDS = 0.2
_TURN_SECONDS = 0.2
# A quarter of the connections that are free: of the server, of the database and of the role.
_AFFORDS = """
SELECT least(
  current_setting('max_parallel_workers')::int, current_setting('max_worker_processes')::int,
  (current_setting('max_connections')::int - (SELECT sum(numbackends) FROM pg_catalog.pg_stat_database)) / 4,
  (SELECT CASE WHEN d.datconnlimit >= 0 THEN (d.datconnlimit - s.numbackends) / 4 END
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_stat_database s ON s.datid = d.oid
    WHERE d.datname = current_database()),
  (SELECT CASE WHEN r.rolconnlimit >= 0 THEN (r.rolconnlimit - count(a.pid)) / 4 END
    FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_stat_activity a ON a.usesysid = r.oid
    WHERE r.rolname = current_user GROUP BY r.rolconnlimit)
)::int
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPool:
    """The workers of a run: connections in autocommit, each for one thread.

    `failed`: a worker has failed, so the others stop. `over`: a worker found nothing left to do in this stage. `busy`:
    connections at work. `cancelled`: connections whose statement was cancelled because another worker failed.
    """

    work: RunContext
    conns: tuple[Connection, ...]
    throttle: Throttle
    failed: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    busy: set[Connection] = field(default_factory=set)
    cancelled: set[Connection] = field(default_factory=set)

    def progress(self, table: str, phase: str, unit: str, total: int | None, done: int = 0) -> Progress:
        """Return the progress of a phase that begins now; see Progress."""
        return Progress(
            table=table,
            phase=phase,
            unit=unit,
            total=total,
            done=done,
            throttle=self.throttle,
            beat=events.Interval(seconds=self.work.settings.run.heartbeat),
        )

    def each(self, job: Callable[[Connection], None]) -> None:
        """Run the job on every connection, each in its own thread, and wait for all. Raises the gravest error.

        The job takes its next item only while `admit` allows it, and returns if there is none.
        """
        numbers = tuple(range(len(self.conns)))
        self.over.clear()
        self.throttle.tuner.begin(time.monotonic())
        try:
            run_parallel(numbers, self.work.interrupt, lambda number: self._guarded(self.conns[number], job))
        except SeveralErrors as error:  # one cause mostly stops all workers
            raise gravest(error.parts) from error

    def admit(self, conn: Connection) -> bool:
        """Wait while the throttle allows fewer workers; return whether there may be something left to do."""
        number = self.conns.index(conn)
        while number >= self.throttle.allowed and not (self.failed.is_set() or self.over.is_set()):
            self.work.interrupt.sleep(_TURN_SECONDS)
        return not (self.failed.is_set() or self.over.is_set())

    def share(
        self,
        items: Iterable[T],
        job: Callable[[Connection, T], None],
        progress: Progress | None = None,
        amount: Callable[[T], int] = lambda _: 1,
    ) -> None:
        """Run the job for each item, in order, on the next free connection. Raises the gravest error.

        `progress` counts what is done; `amount` says how much an item is. If the server runs out of memory, fewer
        workers go on, and the item is done later.
        """
        waiting, turn = deque(items), threading.Lock()

        def work(conn: Connection) -> None:
            while self.admit(conn):
                self.work.interrupt.check()
                self.throttle.keep(conn)
                with turn:
                    if not waiting:
                        return
                    item = waiting.popleft()
                if not self.attempted(partial(job, conn, item)):
                    waiting.appendleft(item)
                elif progress is not None:
                    progress.add(amount(item))

        while waiting:  # an item that failed for want of memory may have come back after the others had ended
            self.each(work)

    def attempted(self, job: Callable[[], None]) -> bool:
        """Do a piece of work; return whether it is done. If the server lacks memory for it, fewer workers go on.

        Raises what the work raises, OutOfMemory only if a single worker cannot do with less.
        """
        try:
            job()
        except errors.OutOfMemory as error:
            if not self.throttle.tuner.shrink():
                raise
            reason = f"the server has too little memory: {error.diag.message_primary}"
            events.logger().warning("online.memory_scarce", workers=self.throttle.allowed, reason=reason)
            return False
        return True

    def _guarded(self, conn: Connection, job: Callable[[Connection], None]) -> None:
        try:
            with server_errors.translated(self.work.store, self.work.interrupt), self._busy(conn):
                job(conn)
            self.over.set()
        except StatementTimeout:
            if conn not in self.cancelled:  # otherwise another worker's failure is the one to raise
                raise

    @contextmanager
    def _busy(self, conn: Connection) -> Iterator[None]:
        """Count a worker as busy. If it fails, cancel what the others are running: an index can take hours."""
        self.busy.add(conn)
        try:
            yield
        except BaseException:
            self.busy.discard(conn)
            self.failed.set()
            while self.busy:
                for other in tuple(self.busy):
                    self.cancelled.add(other)
                    with suppress(psycopg.Error):  # it may have ended by itself
                        other.cancel_safe(timeout=3)
                time.sleep(_CANCEL_SECONDS)
            raise
        finally:
            self.busy.discard(conn)

    def enter(self, live: SourceTable, phase: str) -> None:
        """Record the phase that the run has entered, for other sessions to read."""
        with self.transaction(self.conns[0], live.schema):
            control.enter(self.conns[0], live.ours, self.work.lock.pid, phase)
        events.logger().debug("online.phase_entered", table=live.table, phase=phase)

    @contextmanager
    def transaction(self, conn: Connection, schema: str) -> Iterator[Batch]:
        """Open a worker's transaction, which commits only while the advisory lock is held.

        No standby has to confirm it: the cutover waits for that, and so for all commits before it.
        """
        limits = session_settings.Limits(table_lock=self.work.settings.run.wait_timeout, statement=0)
        with transactions.transaction(conn, schema, limits, name=self.work.lock.worker) as sent:
            yield sent
            self.work.lock.assert_held(self.work.lock.ask(conn))


@contextmanager
def open_pool(work: RunContext) -> Iterator[tuple[Connection, ...]]:
    """Connect as many workers as --jobs says, or as the server affords, and as it accepts.

    They go past a transaction pooler if that is configured.

    If it accepts none, the run's own connection is the only one. Raises what a connection raises.
    """
    wanted = work.settings.run.jobs or _affordable(work)
    with ExitStack() as stack:
        conns = list(_opened(work, stack, wanted))
        if not conns and work.store.has_direct:
            conns.append(_connect(work, stack, patience=work.settings.run.wait_timeout))
        events.logger().info("online.connections", opened=len(conns), wanted=wanted)
        yield tuple(conns) or (work.conn,)


def _affordable(work: RunContext) -> int:
    ((most,),) = transactions.ask(work.conn, _AFFORDS)
    return max(1, min(_MOST, int(most)))


def _opened(work: RunContext, stack: ExitStack, wanted: int) -> Iterator[Connection]:
    """Open up to `wanted` connections, and stop if the server accepts no more."""
    with suppress(DatabaseUnavailable, TokenUnavailable):
        for _ in range(wanted):
            yield _connect(work, stack)


def _connect(work: RunContext, stack: ExitStack, patience: float = 0) -> Connection:
    conn = connection.connect(pooler.past(work.conn, work.store), work.interrupt, patience=patience)
    stack.callback(conn.close)
    transactions.ask(
        conn, "SELECT"
    )  # sets idle_session_timeout: the role's own could end the session before its first job
    return conn

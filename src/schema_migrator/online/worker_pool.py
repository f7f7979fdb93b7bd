"""Connections that work side by side on one table, as many as the server affords."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import psycopg

from schema_migrator import events
from schema_migrator.concurrency import run_parallel
from schema_migrator.errors import DatabaseUnavailable, SeveralErrors, StatementTimeout, gravest
from schema_migrator.postgres import connection, pooler, server_errors, session_settings, transactions

if TYPE_CHECKING:
    from schema_migrator.online.throttle import Throttle
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.postgres.transactions import Batch
    from schema_migrator.runs.context import RunContext

T = TypeVar("T")

_MOST = 4
_CANCEL_SECONDS = 0.2
_AFFORDS = "SELECT least(current_setting('max_parallel_workers')::int, current_setting('max_worker_processes')::int)"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPool:
    """Connections in autocommit, each for one thread, all of them the run's workers."""

    work: RunContext
    conns: tuple[Connection, ...]
    throttle: Throttle
    failed: threading.Event = field(default_factory=threading.Event)
    busy: set[Connection] = field(default_factory=set)
    cancelled: set[Connection] = field(default_factory=set)

    def beat(self) -> events.Interval:
        """Return when to say how far it is."""
        return events.Interval(seconds=self.work.settings.run.heartbeat)

    def each(self, job: Callable[[Connection], None]) -> None:
        """Let every member do the job in its thread until none has anything left. Raises what went wrong."""
        numbers = tuple(range(len(self.conns)))
        try:
            run_parallel(numbers, self.work.interrupt, lambda number: self._guarded(self.conns[number], job))
        except SeveralErrors as error:  # what stops one member mostly stops all
            raise gravest(error.parts) from error

    def share(self, items: Iterable[T], job: Callable[[Connection, T], None], tell: Callable[[int], None]) -> None:
        """Let the members do the job with one item after the other, in their order. Raises what went wrong.

        `tell` is called now and then with how many are done.
        """
        waiting, done, turn, beat = iter(tuple(items)), itertools.count(1), threading.Lock(), self.beat()

        def work(conn: Connection) -> None:
            while not self.failed.is_set():
                self.work.interrupt.check()
                self.throttle.keep(conn)
                with turn:
                    item = next(waiting, None)
                if item is None:
                    return
                job(conn, item)
                with turn:
                    ended = next(done)
                    due = beat.due()
                if due:
                    tell(ended)

        self.each(work)

    def _guarded(self, conn: Connection, job: Callable[[Connection], None]) -> None:
        try:
            with server_errors.translated(self.work.store, self.work.interrupt), self._busy(conn):
                job(conn)
        except StatementTimeout:
            if conn not in self.cancelled:  # else another member's failure is the one to tell
                raise

    @contextmanager
    def _busy(self, conn: Connection) -> Iterator[None]:
        """Count a member as at work; when it fails, end what the others have begun: an index can take hours."""
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

    @contextmanager
    def transaction(self, conn: Connection, schema: str) -> Iterator[Batch]:
        """Open a member's transaction, which commits only while the advisory lock is held."""
        patience = self.work.settings.run.wait_timeout
        limits = session_settings.Limits(table_lock=patience, statement=0, commit=patience)
        with transactions.transaction(conn, schema, limits, name=self.work.lock.worker) as sent:
            yield sent
            self.work.lock.assert_held(self.work.lock.ask(conn))


@contextmanager
def open_pool(work: RunContext) -> Iterator[tuple[Connection, ...]]:
    """Connect as many as the server affords and lets in, past a transaction pooler if there is a way.

    Where it lets in no more, the run's own connection is the only one. Raises what a connection raises.
    """
    ((most,),) = transactions.ask(work.conn, _AFFORDS)
    wanted = max(1, min(_MOST, most))
    with ExitStack() as stack:
        conns = list(_opened(work, stack, wanted))
        if not conns and work.store.has_direct:
            conns.append(_connect(work, stack, patience=work.settings.run.wait_timeout))
        events.logger().info("online.connections", opened=len(conns), wanted=wanted)
        yield tuple(conns) or (work.conn,)


def _opened(work: RunContext, stack: ExitStack, wanted: int) -> Iterator[Connection]:
    """Open up to so many connections, and leave it at that where the server lets in no more."""
    with suppress(DatabaseUnavailable):
        for _ in range(wanted):
            yield _connect(work, stack)


def _connect(work: RunContext, stack: ExitStack, patience: float = 0) -> Connection:
    conn = connection.connect(pooler.past(work.conn, work.store), work.interrupt, patience=patience)
    stack.callback(conn.close)
    transactions.ask(conn, "SELECT")  # the role's idle_session_timeout may end it before its first work
    return conn

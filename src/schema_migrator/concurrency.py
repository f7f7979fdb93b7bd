"""Threads, one per store or connection, and the signals that stop all of them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from schema_migrator.config import programs
from schema_migrator.errors import MigratorError, Stopped, combine
from schema_migrator.stop_signals import handled

if TYPE_CHECKING:
    from types import FrameType

    from psycopg import Connection

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_GRACE_SECONDS = 2.0  # after that the process ends, and the server rolls back whatever is not committed
_CANCEL_SECONDS = 1.5
_AGAIN_SECONDS = 0.05
_SLOWER = 1.5  # each pause between two looks, compared with the one before it
_LEAST_PAUSE = 0.05


class Interrupt:
    """A request to stop, made by SIGTERM, SIGINT or SIGHUP: it ends every wait and cancels every running statement.

    While the main thread waits for other threads, a signal asks them to stop. When the main thread works alone, for
    example reads settings, a signal interrupts it at once: a file may be a pipe without a writer, and a password
    command may hang.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._signal = 0
        self._cancels: set[Callable[[], None]] = set()
        self._conns: weakref.WeakSet[Connection[Any]] = weakref.WeakSet()
        self._cancelling = threading.Lock()
        self._awaits = False
        self._swallowed = False

    def set(self, number: int) -> None:
        """Ask everything to stop because of this signal."""
        self._signal = number
        self.event.set()

    def check(self) -> None:
        """Raise Stopped if a signal has arrived."""
        if self.event.is_set():
            raise Stopped(self._signal)

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds. Raises Stopped as soon as a signal arrives."""
        self.event.wait(seconds)
        self.check()

    @contextmanager
    def cancelling(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Call `cancel` if a signal arrives during the block."""
        self._cancels.add(cancel)
        try:
            yield
        finally:
            self._cancels.discard(cancel)

    def watch(self, conn: Connection[Any]) -> None:
        """Cancel a connection's running statement if a signal arrives before the connection is closed."""
        self._conns.add(conn)

    @contextmanager
    def sparing(self, conn: Connection[Any]) -> Iterator[None]:
        """Let a connection's statements in the block run to their end, although a signal has arrived."""
        with self._cancelling:
            self._conns.discard(conn)
        try:
            yield
        finally:
            self._conns.add(conn)

    def cancel_all(self) -> None:
        """Cancel everything that is running, in parallel: a server that does not answer must not delay the rest."""
        programs.end_all()
        with self._cancelling:
            cancels = [*self._cancels, *(partial(_cancel, conn) for conn in tuple(self._conns))]
            threads = [threading.Thread(target=_quietly, args=(cancel,), daemon=True) for cancel in cancels]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(_CANCEL_SECONDS)

    @contextmanager
    def awaiting(self) -> Iterator[None]:
        """While the main thread waits in this block, leave a signal to the threads that it waits for."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._awaits = True
        try:
            yield
        finally:
            self._awaits = False

    def _raise_again(self, failure: sys.UnraisableHookArgs) -> None:
        """Interrupt once more if a destructor, which cannot raise, has swallowed the interruption."""
        if not isinstance(failure.exc_value, Stopped):
            sys.__unraisablehook__(failure)
            return
        self._swallowed = True
        again = threading.Timer(_AGAIN_SECONDS, os.kill, [os.getpid(), self._signal])
        again.daemon = True
        again.start()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle SIGTERM, SIGINT and SIGHUP while the block runs; without a handler, PID 1 would ignore them."""

        def handle(number: int, _frame: FrameType | None) -> None:
            wanted = self._swallowed or not self.event.is_set()
            self._swallowed = False
            self.set(number)
            if wanted and not self._awaits:
                raise Stopped(number)

        before = {number: signal.signal(number, handle) for number in handled()}
        hook, sys.unraisablehook = sys.unraisablehook, self._raise_again
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class Poll:
    """One look of a wait: the seconds since the first look, and whether the wait's limit has passed."""

    seconds: float
    late: bool


def polls(interrupt: Interrupt, *, limit: float, pause: float, longest: float | None = None) -> Iterator[Poll]:
    """Yield a Poll for each look until the caller stops looking. One look falls on the limit.

    Between looks it sleeps for `pause` seconds, or for longer and longer, up to `longest`. Raises Stopped as soon as a
    signal arrives.
    """
    started = time.monotonic()
    while True:
        seconds = time.monotonic() - started
        yield Poll(seconds, seconds >= limit)
        interrupt.sleep(min(pause, max(limit - seconds, _LEAST_PAUSE)))
        pause = min(pause * _SLOWER, longest) if longest is not None else pause


def _cancel(conn: Connection[Any]) -> None:
    if not conn.closed:
        conn.cancel_safe(timeout=_CANCEL_SECONDS)


def _quietly(cancel: Callable[[], None]) -> None:
    with suppress(Exception):  # the connection itself may be broken
        cancel()


class _Worker(threading.Thread, Generic[T]):
    def __init__(self, work: Callable[[], T], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.work = work
        self.context = copy_context()  # the thread's events have the same context as the caller's
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.context.run(self.work)
        except BaseException as error:  # noqa: BLE001 - run_parallel raises it in the caller's thread
            self.error = error


def run_parallel(those: tuple[K, ...], interrupt: Interrupt, work: Callable[[K], T]) -> dict[K, T]:
    """Call `work` for each item in a thread of its own and return the results by item.

    All threads are awaited, so one failure never leaves another item half done. Raises MigratorError (SeveralErrors
    if more than one failed) or Stopped.
    """
    workers = {item: _Worker(partial(work, item), name=str(item)) for item in those}
    with interrupt.awaiting():
        for worker in workers.values():
            worker.start()
        _await(list(workers.values()), interrupt)
    errors = [worker.error for worker in workers.values() if worker.error is not None]
    for error in errors:
        if not isinstance(error, MigratorError):
            raise error
    if errors:
        if not any(isinstance(error, Stopped) for error in errors):
            interrupt.check()  # work that a signal interrupts fails in many ways
        raise combine([error for error in errors if isinstance(error, MigratorError)])
    return {item: worker.result for item, worker in workers.items()}


def _await(workers: list[_Worker[T]], interrupt: Interrupt) -> None:
    for worker in workers:
        while worker.is_alive() and not interrupt.event.is_set():
            worker.join(0.1)
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline:
        interrupt.cancel_all()
        for worker in workers:
            worker.join(0.2)
    if any(worker.is_alive() for worker in workers):
        interrupt.check()

"""Our connections: pipelines in which the server counts a transaction as idle while we send nothing, and pings."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Loader
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import AdaptContext, PipelineCommand, PQGen


class _Iso(Loader):
    """Reads dates and times in ISO format; timestamps with an offset become UTC.

    psycopg takes the format from the last DateStyle that the server reported. PostgreSQL 14 and newer report it only
    at a Sync (source: postgres.c, PostgresMain). In a pipeline, our own `SET LOCAL DateStyle` is not reported in time.
    """

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:  # noqa: ARG002 - left out on purpose
        super().__init__(oid)


class _IsoDate(_Iso, DateLoader):
    pass


class _IsoTimestamp(_Iso, TimestampLoader):
    pass


class _IsoTimestamptz(_Iso, TimestamptzLoader):
    pass


_MOST_UNSENT_BYTES = 7_000  # libpq sends full blocks of 8,192 bytes at once (source: fe-misc.c, pqPutMsgEnd)
_PING_SECONDS = 2.0
_MESSAGES_BYTES = 60  # what a query's messages have in addition


class _Together(partial[None]):
    """Several commands of a pipeline that psycopg treats as one."""


class _SyncedPipeline(psycopg.Pipeline):
    """A pipeline that sends statements together with a Sync, in one write, and never a Flush.

    psycopg sends each statement at once, a Flush before it waits for rows, and a Sync only at the end. The server
    counts a transaction as active until a Sync, and a Flush ends the timer that a Sync has started (source: postgres.c,
    PostgresMain). If the client were stopped then, `idle_in_transaction_session_timeout` would never end its
    transaction, and its locks would stay. psycopg has no public way to change that.
    """

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        super().__init__(conn)
        self._synced = False
        self._unsent_bytes = 0

    def discard(self) -> None:
        """Forget the statements that were not sent."""
        unsent = sum(len(each.args[0]) if isinstance(each, _Together) else 1 for each in self.command_queue)
        for _ in range(unsent):
            self.result_queue.pop()
        self.command_queue.clear()
        self._unsent_bytes = 0

    def _enqueue_sync(self) -> None:
        super()._enqueue_sync()
        self._synced = True

    def _communicate_gen(self) -> PQGen[None]:
        if not self._synced:  # a statement was added
            added = _size(self.command_queue[-1])
            if self._unsent_bytes > 0 and self._unsent_bytes + added > _MOST_UNSENT_BYTES:
                yield from self._send_before_last_gen()
            self._unsent_bytes += added
        else:
            yield from self._send_gen()

    def _send_before_last_gen(self) -> PQGen[None]:
        last, result = self.command_queue.pop(), self.result_queue.pop()
        self._enqueue_sync()
        yield from self._send_gen()
        self.command_queue.append(last)
        self.result_queue.append(result)

    def _send_gen(self) -> PQGen[None]:
        commands = tuple(self.command_queue)
        self._synced, self._unsent_bytes = False, 0
        self.command_queue.clear()
        self.command_queue.append(_Together(_call, commands))
        yield from super()._communicate_gen()

    def _fetch_gen(self, *, flush: bool) -> PQGen[None]:
        if flush and self.command_queue:
            self._enqueue_sync()
            yield from self._communicate_gen()
        yield from super()._fetch_gen(flush=False)


def _call(commands: tuple[PipelineCommand, ...]) -> None:
    for command in commands:
        command()


def _size(command: PipelineCommand) -> int:
    """Return about how many bytes libpq sends for a command: a query with its parameters, a name, or a Sync."""
    args: tuple[Any, ...] = getattr(command, "args", ())
    values = [args[0], *(args[1] or ())] if len(args) > 1 else args
    return sum(len(value) for value in values if value is not None) + _MESSAGES_BYTES


class PipelineConnection(psycopg.Connection[Any]):
    """A connection whose pipelines send statements together with a Sync.

    It reads dates and timestamps in ISO format, which each of our transactions sets.
    """

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 - psycopg's own
        super().__init__(*args, **named)
        self._pinging = threading.Lock()
        self.adapters.register_loader("date", _IsoDate)
        self.adapters.register_loader("timestamp", _IsoTimestamp)
        self.adapters.register_loader("timestamptz", _IsoTimestamptz)

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Open a pipeline for the block. Within a pipeline, the block uses the one that is already open.

        After an exception, what was not sent is not sent any more.
        """
        if self._pipeline is None:
            self._pipeline = _SyncedPipeline(self)
        with super().pipeline() as opened:
            try:
                yield opened
            except BaseException:
                if isinstance(opened, _SyncedPipeline):
                    opened.discard()
                raise

    def ping(self) -> None:
        """Send an empty query unless the connection is in use; from any thread.

        It does not disturb the thread that uses the connection: psycopg holds the connection's lock whenever it uses
        it, and the connection's status shows an open transaction or pipeline.
        """
        if not self.lock.acquire(blocking=False):
            return
        try:
            with self._pinging:
                idle = self.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
                if idle and self.pgconn.pipeline_status == psycopg.pq.PipelineStatus.OFF:
                    with suppress(psycopg.Error):  # the next statement on the connection raises the error
                        self.pgconn.exec_(b"")
        finally:
            self.lock.release()

    def close(self) -> None:
        """Close the connection. A ping that is under way ends first: libpq would use memory that the close has freed.

        If the ping does not end, because the network is gone, the connection stays open until the process ends.
        """
        if not self._pinging.acquire(timeout=_PING_SECONDS):
            self._closed = True
            return
        try:
            super().close()
        finally:
            self._pinging.release()

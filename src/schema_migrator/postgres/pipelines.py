"""Pipelines in which the server counts our transaction as idle while we send nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import AdaptContext


class _IsoDate(DateLoader):
    """Reads a date in ISO format.

    psycopg takes the format from the last DateStyle that the server reported. PostgreSQL 14 and newer report it only
    at a Sync (source: postgres.c, PostgresMain). In a pipeline, our own `SET LOCAL DateStyle` is not reported in time.
    """

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:  # noqa: ARG002 - left out on purpose
        super().__init__(oid)


class _IsoTimestamp(TimestampLoader):
    """Reads a timestamp in ISO format, as _IsoDate does."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:  # noqa: ARG002 - left out on purpose
        super().__init__(oid)


class _IsoTimestamptz(TimestamptzLoader):
    """Reads a timestamp with its offset in ISO format, as _IsoDate does, and returns it in UTC."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:  # noqa: ARG002 - left out on purpose
        super().__init__(oid)


_LOADERS: dict[str, type[_IsoDate | _IsoTimestamp | _IsoTimestamptz]] = {
    "date": _IsoDate,
    "timestamp": _IsoTimestamp,
    "timestamptz": _IsoTimestamptz,
}


class PipelineCursor(psycopg.Cursor[Any]):
    """A cursor that sends a Sync in a pipeline before it waits for rows.

    psycopg only sends a Flush. The server answers a Flush too, but it does not report a transaction as idle before a
    Sync (source: postgres.c, PostgresMain). If the client were stopped, `idle_in_transaction_session_timeout` would
    never end its transaction, and its locks would stay.
    """

    def fetchone(self) -> Any:  # noqa: ANN401 - the type of a row is the row factory's
        """Return the next row, or None."""
        self._settle()
        return super().fetchone()

    def fetchall(self) -> list[Any]:
        """Return the remaining rows."""
        self._settle()
        return super().fetchall()

    def _settle(self) -> None:
        if self.pgresult is None and isinstance(self.connection, PipelineConnection):
            self.connection.sync()


class PipelineConnection(psycopg.Connection[Any]):
    """A connection that keeps track of its open pipeline and whose cursors are PipelineCursors.

    It reads dates and timestamps in ISO format, which each of our transactions sets.
    """

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 - psycopg's own
        super().__init__(*args, **named)
        self.cursor_factory = PipelineCursor
        self._opened: psycopg.Pipeline | None = None
        for name, loader in _LOADERS.items():
            self.adapters.register_loader(name, loader)

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Open a pipeline for the block. Within a pipeline, the block uses the one that is already open."""
        with super().pipeline() as opened:
            outer, self._opened = self._opened, opened
            try:
                yield opened
            finally:
                self._opened = outer

    def sync(self) -> None:
        """Wait for the answers to everything sent in an open pipeline; from then on the server counts idle time."""
        if self._opened is not None:
            self._opened.sync()

"""Pipelines in which a transaction of ours counts as idle while we send nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator


class PipelineCursor(psycopg.Cursor[Any]):
    """A cursor that ends the pipeline's messages with a Sync before it waits for rows.

    psycopg sends a Flush there. The server answers that too, but it reports no transaction as idle before a Sync
    (source: postgres.c, PostgresMain), so `idle_in_transaction_session_timeout` would never end one whose client
    was stopped, and its locks would stay.
    """

    def fetchone(self) -> Any:  # noqa: ANN401 - the type of a row is the row factory's
        """Return the next row, or None."""
        self._settle()
        return super().fetchone()

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        self._settle()
        return super().fetchall()

    def _settle(self) -> None:
        if self.pgresult is None and isinstance(self.connection, PipelineConnection):
            self.connection.sync()


class PipelineConnection(psycopg.Connection[Any]):
    """A connection that knows its open pipeline, and whose cursors are of our kind."""

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 - psycopg's own
        super().__init__(*args, **named)
        self.cursor_factory = PipelineCursor
        self._opened: psycopg.Pipeline | None = None

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Open a pipeline for the block; within another one that stays the same."""
        with super().pipeline() as opened:
            outer, self._opened = self._opened, opened
            try:
                yield opened
            finally:
                self._opened = outer

    def sync(self) -> None:
        """Wait for the answers to all that was sent in an open pipeline, and let the server count idle time."""
        if self._opened is not None:
            self._opened.sync()

"""What a server does to the visibility store meanwhile: rows, and a writer of them."""

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Self

import psycopg

from support.postgres.databases import Databases
from support.postgres.engine import Connection

KEY = "repeat('n', 64), lpad(%s::text, 64, '0')"
UPSERT = f"""
INSERT INTO executions_visibility (namespace_id, run_id, start_time, execution_time, workflow_id,
  workflow_type_name, status, encoding, memo, search_attributes)
VALUES ({KEY}, now(), now(), 'workflow', 'type', 1, 'json', %s,
  '{{"TemporalBool01": true, "TemporalInt01": 7, "TemporalKeyword01": "k", "BuildIds": ["a", "b"]}}')
ON CONFLICT (namespace_id, run_id) DO UPDATE SET status = executions_visibility.status + 1
"""
MEGABYTE = 1024 * 1024
PAUSE = 0.01


def fill(connection: Connection, rows: int = 500) -> None:
    """Insert rows of a few bytes; from version 1.2 on."""
    with connection.transaction():
        for number in range(rows):
            connection.execute(UPSERT, [number, None])


def fill_large(connection: Connection, megabytes: int = 20) -> None:
    """Insert a row for each megabyte: enough for the table not to count as small."""
    for number in range(megabytes):
        connection.execute(UPSERT, [-1 - number, os.urandom(MEGABYTE)])


@dataclass(slots=True, kw_only=True)
class Writer:
    """Upserts rows, one at a time and again and again, from `with` to its end."""

    databases: Databases
    rows: int = 50
    done: int = 0
    longest: float = 0.0
    error: psycopg.Error | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work, name="writer")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def _work(self) -> None:
        try:
            with self.databases.connect("visibility") as connection:
                while not self._stop.wait(PAUSE):
                    began = time.monotonic()
                    connection.execute(UPSERT, [self.done % self.rows, None])
                    self.longest = max(self.longest, time.monotonic() - began)
                    self.done += 1
        except psycopg.Error as error:
            self.error = error

"""Turns for the cutover: of the visibility stores of a run, one at a time is in it.

Temporal with two visibility stores then has one that answers, also if a cutover goes wrong or takes long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from schema_migrator import events

if TYPE_CHECKING:
    from schema_migrator.runs.context import RunContext

# The stores of a run are threads of one process. Each folder of files has a lock of its own.
_TURNS = {"temporal": threading.Lock(), "visibility": threading.Lock()}
_POLL_SECONDS = 0.1


@contextmanager
def taken(work: RunContext, table: str) -> Iterator[bool]:
    """Hold the turn during the block; yield whether another store had it first.

    Raises Stopped if a signal arrives during the wait.
    """
    turn = _TURNS[work.store.store.folder]
    waited = _acquire(turn, work, table)
    try:
        yield waited
    finally:
        turn.release()


def _acquire(turn: threading.Lock, work: RunContext, table: str) -> bool:
    if turn.acquire(blocking=False):
        return False
    started, beat = time.monotonic(), events.Interval(seconds=work.settings.run.heartbeat)
    while not turn.acquire(timeout=_POLL_SECONDS):
        work.interrupt.check()
        if beat.due():
            seconds = round(time.monotonic() - started)
            events.logger().info("online.waiting_for_cutover", table=table, seconds=seconds)
    return True

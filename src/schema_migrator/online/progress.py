"""How far a phase of an online rewrite is, as one event at each heartbeat."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schema_migrator import events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema_migrator.online.throttle import Throttle


@dataclass(slots=True, kw_only=True)
class Progress:
    """The progress of a phase on a table, in some unit, of which there are `total`, None if that is unknown.

    `done`: everything so far; at the beginning, what earlier runs have done. The workers of a pool share it.
    """

    table: str
    phase: str
    unit: str
    total: int | None
    throttle: Throttle
    beat: events.Interval
    done: int = 0
    _before: int = field(init=False)
    _started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._before = self.done

    def add(self, amount: int) -> None:
        """Count finished work, from which the number of workers is tuned, and log if a heartbeat is due."""
        self.throttle.tuner.done(amount, time.monotonic(), self.throttle.allowed)
        with self._lock:
            self.done += amount
            self._tell()

    def reach(self, done: int, total: int) -> None:
        """Set how far the phase is, if its end moves, and log if a heartbeat is due."""
        with self._lock:
            self.done, self.total = done, total
            self._tell()

    def _tell(self) -> None:
        if not self.beat.due():
            return
        events.logger().info(
            "online.progress",
            table=self.table,
            phase=self.phase,
            unit=self.unit,
            **measured(self.done, self._before, self.total, time.monotonic() - self._started),
            workers=self.throttle.allowed,
            brake=self.throttle.brake or None,
        )


def measured(done: int, before: int, total: int | None, seconds: float) -> Mapping[str, int | float | None]:
    """Return what is done and left, as a number and in percent, done per second, and the seconds that are left.

    What depends on the total is None if that is unknown; so is the time left as long as nothing was done.
    """
    rate = (done - before) / seconds if seconds > 0 else 0.0
    left = None if total is None else max(total - done, 0)
    return {
        "done": done,
        "left": left,
        "percent": None if total is None else round(100 * done / max(total, done, 1)),
        "per_second": round(rate, 1),
        "seconds_left": round(left / rate) if rate and left is not None else None,
    }

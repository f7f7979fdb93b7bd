"""How far a phase of an online rewrite is, as one event at each heartbeat."""

from __future__ import annotations

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

    `before`: what earlier runs have done.
    """

    table: str
    phase: str
    unit: str
    total: int | None
    throttle: Throttle
    beat: events.Interval
    before: int = 0
    started: float = field(default_factory=time.monotonic)

    def tell(self, done: int) -> None:
        """Log how far the phase is if a heartbeat is due; `done`: everything so far, `before` included."""
        if not self.beat.due():
            return
        events.logger().info(
            "online.progress",
            table=self.table,
            phase=self.phase,
            unit=self.unit,
            **measured(done, self.before, self.total, time.monotonic() - self.started),
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

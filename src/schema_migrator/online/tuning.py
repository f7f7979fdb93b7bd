"""How many workers an online rewrite uses if nobody has said so: more of them, while more do more work in a second.

How fast a server copies rows and builds indexes with one worker more depends on its processors and disks, which a
client cannot see. So the number is found by trial, for each stage of its own.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

FIRST = 2
"""Workers at the beginning: one copies while the other one waits for the disk, also on a small server."""
GAIN = 1.1
"""Twice the workers stay if they do at least this multiple of the work."""
SECONDS = 5.0
"""How long work is measured at least; a batch of the backfill takes a tenth of that."""
ITEMS = 2
"""How many batches or indexes each worker finishes at least while work is measured."""
REST = 12
"""After a trial in vain the next one waits for so many measurements."""


@dataclass(slots=True, kw_only=True)
class Tuner:
    """The number of workers, between 1 and `most`. If it is `fixed`, it is `most` all the time.

    Work is counted in rows for the backfill, in bytes for indexes. The clock is the caller's, in seconds. `scarce`: the
    server has run out of memory.
    """

    most: int
    fixed: bool = False
    workers: int = field(init=False)
    scarce: bool = False
    _before: int | None = None
    _best: float = 0.0
    _resting: int = 0
    _since: float = 0.0
    _amount: float = 0.0
    _items: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.workers = self.most if self.fixed else min(FIRST, self.most)

    def begin(self, now: float) -> None:
        """Begin a stage with the number of workers that the last one ended with; its speed says nothing about this."""
        with self._lock:
            self._before, self._resting, self._best = None, 0, 0.0
            self._measure(now)

    def done(self, amount: float, now: float, allowed: int) -> None:
        """Count finished work; `allowed`: how many workers may work now, fewer than `workers` if something brakes."""
        with self._lock:
            if self.fixed:
                return
            if allowed < self.workers:
                self._measure(now)
                return
            self._amount, self._items = self._amount + amount, self._items + 1
            seconds = now - self._since
            if seconds >= SECONDS and self._items >= ITEMS * self.workers:
                self._decide(self._amount / seconds)
                self._measure(now)

    def shrink(self) -> bool:
        """Halve the workers for good, because the server lacks memory; return whether they can now do with less."""
        with self._lock:
            less = self.workers > 1 or not self.scarce
            self.most = self.workers = max(1, self.workers // 2)
            self.scarce, self._before = True, None
            return less

    def _measure(self, now: float) -> None:
        self._since, self._amount, self._items = now, 0.0, 0

    def _decide(self, rate: float) -> None:
        """Keep or take back what was tried, given the work per second with it, and try more if that is due."""
        if self._before is not None and rate < GAIN * self._best:
            self.workers, self._before, self._resting = self._before, None, REST
            return
        self._before, self._best = None, rate
        self._resting = max(self._resting - 1, 0)
        if self._resting == 0 and self.workers < self.most:
            self._before, self.workers = self.workers, min(self.most, 2 * self.workers)

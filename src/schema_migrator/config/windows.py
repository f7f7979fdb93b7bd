"""A window of hours in which a cutover may begin, such as `02:00-04:00 Europe/Berlin`. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time

_TEXT = re.compile(r"(?P<first>\d{1,2}:\d{2})-(?P<last>\d{1,2}:\d{2})(?: +(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The hours from `first` (inclusive) to `last` (exclusive), on every day, in a time zone that PostgreSQL knows.

    If `last` is before `first`, the window goes on after midnight.
    """

    first: time
    last: time
    zone: str

    def contains(self, now: time) -> bool:
        """Return whether the window is open at a time of its zone."""
        if self.first < self.last:
            return self.first <= now < self.last
        return now >= self.first or now < self.last

    def __str__(self) -> str:
        return f"{self.first:%H:%M}-{self.last:%H:%M} {self.zone}"


def parse(text: str) -> Window:
    """Return the window that a text describes; without a zone it is UTC. Raises ValueError."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    first, last = (time.fromisoformat(found[name].zfill(5)) for name in ("first", "last"))
    if first == last:
        raise ValueError(text)
    return Window(first=first, last=last, zone=found["zone"] or "UTC")

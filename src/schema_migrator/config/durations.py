"""Converts durations from and to text: 24h, 7d, 1d12h, 90m. Pure functions."""

from __future__ import annotations

import re
from datetime import timedelta

_TEXT = re.compile(r"(?:([0-9]{1,7})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,7})s)?")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60))
LONGEST = timedelta(days=36_500)
"""The longest duration: Temporal's server silently reduces a longer retention to this."""


def parse(text: str) -> timedelta:
    """Return the duration that a text describes. Raises ValueError if it is none, is zero or longer than LONGEST."""
    found = _TEXT.fullmatch(text)
    if found is None or not text:
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta() < length <= LONGEST:
        raise ValueError(text)
    return length


def text(length: timedelta) -> str:
    """Return a duration as text, in the largest unit that needs no fraction: 3d, 36h, 90m."""
    seconds = round(length.total_seconds())
    for unit, size in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"

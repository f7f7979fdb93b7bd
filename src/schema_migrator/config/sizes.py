"""Converts numbers of bytes from and to text, in PostgreSQL's units: 256MB is 256 times 1024 times 1024 bytes."""

from __future__ import annotations

import re

_KILO = 1024
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))? ?([a-z]*)", re.ASCII | re.IGNORECASE)


def parse(text: str) -> int:
    """Return the number of bytes in a text such as 256MB, 1.5 GB or 4096. Raises ValueError if it is not a size."""
    found = _SIZE.fullmatch(text)
    powers = {unit.lower(): power for power, unit in enumerate(_UNITS)} | {"": 0}
    if found is None or found[3].lower() not in powers:
        raise ValueError(text)
    whole, part, unit = found[1], found[2] or "0", found[3].lower()
    factor: int = _KILO ** powers[unit]
    return int(whole) * factor + round(float(f"0.{part}") * factor)


def text(count: int) -> str:
    """Return a number of bytes as text, in the largest unit, up to GB, of which it has at least one."""
    value = float(count)
    for unit in _UNITS[:3]:
        if value < _KILO:
            return f"{value:.0f} {unit}"
        value /= _KILO
    return f"{value:.1f} GB"

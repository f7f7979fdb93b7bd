"""How tests wait for something: again and again, and longer than the program itself is patient."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 400.0
"""Seconds: the program waits 300 for a server, a lock or a table, and then says why it ends; a test waits for that."""
PAUSE = 0.02


def await_true(found: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Wait until there is something that is true; return it."""
    deadline = time.monotonic() + seconds
    while not (now := found()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(PAUSE)
    return now


def await_one(found: Callable[[], Sequence[T]], seconds: float = PATIENCE) -> T:
    """Wait until there are some; return the first."""
    return await_true(found, seconds)[0]


def await_none(found: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until none is left."""
    deadline = time.monotonic() + seconds
    while left := found():
        assert time.monotonic() < deadline, f"still there after {seconds} s: {left}"
        time.sleep(PAUSE)

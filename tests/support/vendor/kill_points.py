"""Where every run of the tests stops the vendor's tool: where it is known to stick, and a spread over the rest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from support.postgres.databases import STORES
from support.vendor.kill_sweep import RETRIES, Point

RELEASES = ("1.29.1", "1.32.2")
PARTS = 5
KNOWN = [
    ("default", "1.0", 3, True, 1),
    ("default", "1.0", 31, True, 0),
    ("default", "1.4", 1, True, 2),
    ("default", "1.4", 2, True, 1),
    ("default", "1.8", 3, True, 1),
    ("default", "1.13", 1, True, 3),
    ("default", "1.13", 2, True, 0),
    ("default", "1.16", 1, True, 1),
    ("visibility", "1.2", 6, True, 1),
    ("visibility", "1.2", 12, False, 2),
    ("visibility", "1.2", 54, True, 3),
    ("visibility", "1.6", 1, True, 1),
    ("visibility", "1.6", 7, True, 2),
    ("visibility", "1.9", 2, True, 0),
]
"""Where the vendor's tool sticks for ever, or nearly: store, version, statement, after it, retries."""
NEWER = [
    ("default", "1.19", 1, True, 1),
    ("visibility", "1.13", 2, True, 0),
    ("visibility", "1.13", 9, False, 1),
    ("visibility", "1.14", 3, True, 2),
]
CASES = [
    *(("1.29.1", *case) for case in KNOWN[::2]),
    *(("1.32.2", *case) for case in (*KNOWN[1::2], *NEWER)),
]

Points = Callable[[str, str], list[Point]]
"""Lists the points of a release and a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A point, found when the points are listed, and the vendor's retries after it."""

    name: str
    release: str
    store: str
    find: Callable[[list[Point]], Point]
    retries: int


def stops() -> Iterator[Stop]:
    """Yield them all."""
    for release, store, version, number, after, retries in CASES:
        name = f"{release}-{store}-{version}-{number}-{'after' if after else 'before'}-{retries}"
        yield Stop(name=name, release=release, store=store, find=_named(version, number, after=after), retries=retries)
    for release in RELEASES:
        for store in STORES:
            for part in range(PARTS):
                name, retries = f"{release}-{store}-{part}", part % (RETRIES + 1)
                yield Stop(name=name, release=release, store=store, find=_spread(part), retries=retries)


def _named(version: str, number: int, *, after: bool) -> Callable[[list[Point]], Point]:
    def find(listed: list[Point]) -> Point:
        (point,) = [one for one in listed if (one.version, one.number, one.after) == (version, number, after)]
        return point

    return find


def _spread(part: int) -> Callable[[list[Point]], Point]:
    """Take points over the whole length, before a statement and after it."""

    def find(listed: list[Point]) -> Point:
        width = len(listed) // PARTS | 1  # odd, so that it alternates before and after
        return listed[width * part + part % 2]

    return find

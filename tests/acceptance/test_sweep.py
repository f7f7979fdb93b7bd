"""Whatever the vendor's tool leaves when it is stopped, and after retries, ours brings to the target."""

from collections.abc import Callable
from functools import cache

import pytest

from engine import Engine
from migrations import STORES, References
from stores import Databases, fresh
from sweep import RETRIES, SETUP, Point, Sweep, points

RELEASES = ("1.29.1", "1.32.2")
PARTS = 7
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


@pytest.fixture(scope="module")
def all_points(server: Engine) -> Points:
    """Return what lists the points of a release and store, each listed once."""

    @cache
    def listed(release: str, store: str) -> list[Point]:
        with fresh(server) as databases:
            return points(databases, release, store)

    return listed


@pytest.fixture
def sweep(databases: Databases, references: References) -> Sweep:
    """Return the sweep on this test's databases."""
    return Sweep(databases=databases, references=references)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_where_the_vendor_sticks(sweep: Sweep, all_points: Points, case: tuple[str, str, str, int, bool, int]) -> None:
    """Ours reaches the target, with the vendor's dump and rows."""
    release, store, *wanted, retries = case
    (point,) = [one for one in all_points(release, store) if [one.version, one.number, one.after] == wanted]
    assert sweep.outcome(point, retries).problem == ""


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("release", RELEASES)
def test_a_spread_of_points(sweep: Sweep, all_points: Points, release: str, store: str, part: int) -> None:
    """The same at points over the whole length, before a statement and after it, with up to three retries."""
    listed = all_points(release, store)
    spread = len(listed) // PARTS | 1  # odd, so that it alternates before and after
    assert sweep.outcome(listed[spread * part + part % 2], part % (RETRIES + 1)).problem == ""


def test_the_points_are_every_statement(all_points: Points) -> None:
    """A point before and after each statement: those of the files, two records a step, eight to set up."""
    listed = all_points("1.29.1", "default")
    assert [one.after for one in listed] == [False, True] * (len(listed) // 2)
    last = {one.version: one.number for one in listed}
    assert last.items() >= {SETUP: 8, "1.0": 32, "1.4": 4, "1.18": 4}.items()

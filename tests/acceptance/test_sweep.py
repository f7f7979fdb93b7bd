"""Whatever the vendor's tool leaves when it is stopped, and after retries, ours brings to the target."""

import pytest

from support.postgres.databases import Databases
from support.program.references import References
from support.vendor.chart_line import run_line
from support.vendor.kill_points import Points, Stop, stops
from support.vendor.kill_sweep import SETUP, Sweep, run_migrate


@pytest.fixture(params=[run_migrate, run_line], ids=["migrate", "chart"])
def sweep(databases: Databases, references: References, request: pytest.FixtureRequest) -> Sweep:
    """Return the sweep on this test's databases, healed by ours or by the official chart's line on our drop-in."""
    return Sweep(databases=databases, references=references, heal=request.param)


@pytest.mark.parametrize("stop", list(stops()), ids=lambda stop: stop.name)
def test_what_the_vendor_leaves(sweep: Sweep, all_points: Points, stop: Stop) -> None:
    """The target is reached, with the vendor's dump and rows."""
    point = stop.find(all_points(stop.release, stop.store))
    assert sweep.outcome(point, stop.retries).problem == ""


def test_the_points_are_every_statement(all_points: Points) -> None:
    """A point before and after each statement: those of the files, two records a step, eight to set up."""
    listed = all_points("1.29.1", "default")
    assert [one.after for one in listed] == [False, True] * (len(listed) // 2)
    last = {one.version: one.number for one in listed}
    assert last.items() >= {SETUP: 8, "1.0": 32, "1.4": 4, "1.18": 4}.items()

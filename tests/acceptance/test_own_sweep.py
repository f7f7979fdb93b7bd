"""Our own upgrade of tables with rows, stopped, is made good by the next run, and no value is lost."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from support.postgres.databases import fresh
from support.postgres.engine import Engine
from support.program.references import NEWEST
from support.vendor.own_sweep import EMPTY, Journey, journey

STARTS = [("default", "1.3"), ("default", "1.9"), ("visibility", "1.2"), ("visibility", EMPTY)]
PARTS = 3


@pytest.fixture(scope="module")
def journeys(server: Engine) -> Iterator[Callable[[str, str], tuple[Journey, int]]]:
    """Give what makes a way from a start, and its length, each once."""
    with fresh(server) as databases:

        @cache
        def made(store: str, start: str) -> tuple[Journey, int]:
            way = journey(databases, NEWEST, store, start)
            return way, way.length()

        yield made


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("store", "start"), STARTS)
def test_ours_is_stopped(
    journeys: Callable[[str, str], tuple[Journey, int]], store: str, start: str, part: int
) -> None:
    """Over the second half of the messages, where the steps are: the rows are those of a clean upgrade."""
    way, length = journeys(store, start)
    message = length - length * part // (2 * PARTS) - 1
    assert way.stop(message, after=bool(part % 2)).problem == ""

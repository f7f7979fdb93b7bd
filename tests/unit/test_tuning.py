"""How many workers the tuner lets work, on servers whose speed is known."""

from collections.abc import Callable

import pytest

from schema_migrator.online.tuning import FIRST, REST, SECONDS, Tuner


def work(tuner: Tuner, speed: Callable[[int], float], seconds: float, *, allowed: int = 1000) -> list[int]:
    """Let a tuner's workers work on a server; return the numbers of workers that there were, one after another."""
    used, now = [tuner.workers], 0.0
    tuner.begin(now)
    while now < seconds:
        now += 0.1
        tuner.done(speed(min(tuner.workers, allowed)) * 0.1, now, min(tuner.workers, allowed))
        if tuner.workers != used[-1]:
            used.append(tuner.workers)
    return used


def cores(count: int) -> Callable[[int], float]:
    """Return the speed of a server with so many processors: each worker uses one."""
    return lambda workers: 1000.0 * min(workers, count)


@pytest.mark.parametrize(("count", "expected"), [(1, 2), (2, 2), (4, 4), (8, 8), (16, 16), (64, 16)])
def test_as_many_as_do_more_work(count: int, expected: int) -> None:
    """They double while that makes the rewrite faster, up to the most."""
    tuner = Tuner(most=16)
    work(tuner, cores(count), 60)
    assert tuner.workers == expected


def test_a_number_that_did_not_help_is_taken_back() -> None:
    """It is tried for one measurement, and again after a rest, because a server does not stay as busy as it is."""
    tuner = Tuner(most=8)
    rest = (REST + 2) * (SECONDS + 0.1)
    assert work(tuner, cores(2), 2 * rest) == [2, 4, 2, 4, 2, 4, 2]
    assert work(tuner, cores(8), 3 * rest)[-1] == 8


def test_a_worker_more_does_nothing_for_ever() -> None:
    """A gain of less than a tenth is noise."""
    tuner = Tuner(most=8)
    work(tuner, lambda workers: 1000 + 49 * workers, 60)
    assert tuner.workers == FIRST


def test_a_stage_begins_with_the_number_of_the_last_one() -> None:
    """What was measured in rows is forgotten: indexes are measured in bytes."""
    tuner = Tuner(most=8)
    work(tuner, cores(8), 60)
    assert work(tuner, lambda workers: 1.0 * min(workers, 8), 60) == [8]


def test_a_brake_is_not_measured() -> None:
    """While fewer workers may work than the tuner says, nothing is learned about its number."""
    tuner = Tuner(most=8)
    assert work(tuner, cores(8), 60, allowed=1) == [2]


def test_a_number_that_somebody_has_set_stays() -> None:
    """--jobs 3 means three."""
    tuner = Tuner(most=3, fixed=True)
    assert work(tuner, cores(1), 60) == [3]


def test_scarce_memory_halves_for_good() -> None:
    """Down to one, and never more again."""
    tuner = Tuner(most=8)
    work(tuner, cores(8), 60)
    assert [(tuner.shrink(), tuner.workers) for _ in range(4)] == [(True, 4), (True, 2), (True, 1), (False, 1)]
    assert work(tuner, cores(8), 60) == [1]


def test_one_worker_can_do_with_less_memory_once() -> None:
    """It has had a larger share than the server's own setting."""
    tuner = Tuner(most=1)
    assert [tuner.shrink(), tuner.shrink()] == [True, False]
    assert tuner.scarce


def test_few_connections_are_few_workers() -> None:
    """One connection is one worker from the beginning."""
    assert Tuner(most=1).workers == 1

"""How many workers may work, by the time that a small commit takes."""

import pytest

from schema_migrator.online.budgets import workers

LIMIT = 0.2


@pytest.mark.parametrize(
    ("allowed", "seconds", "then"),
    [
        (8, 0.21, 4),
        (5, 9.0, 2),
        (1, 9.0, 1),
        (4, 0.2, 4),
        (4, 0.1, 4),
        (4, 0.09, 8),
        (6, 0.09, 8),
        (8, 0.0, 8),
    ],
)
def test_half_above_the_limit_twice_below_half_of_it(allowed: int, seconds: float, then: int) -> None:
    """At least one, at most as many as there are; in between nothing changes."""
    assert workers(allowed, 8, seconds, LIMIT) == then


@pytest.mark.parametrize(("seconds", "then"), [(9.0, 2), (0.15, 3), (0.0, 3)])
def test_never_more_than_somebody_has_asked_for(seconds: float, then: int) -> None:
    """Whatever worked before."""
    assert workers(4, 3, seconds, LIMIT) == then

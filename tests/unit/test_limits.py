"""Timeouts as PostgreSQL takes them."""

import pytest

from schema_migrator.postgres.session_settings import milliseconds


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0ms"), (0.0001, "1ms"), (0.2, "200ms"), (300, "300000ms"), (1e308, "2147483647ms")]
)
def test_no_limit_becomes_none(seconds: float, said: str) -> None:
    """A very short one stays one, and a very long one is the longest that there is."""
    assert milliseconds(seconds) == said

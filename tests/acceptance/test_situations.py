"""What could hurt the users of a server holds an online rewrite back, or keeps it from starting; they go on."""

from collections.abc import Iterator

import pytest

from support.visibility import situations
from support.visibility.situations import ROLES, SITUATIONS, Stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Start a server with a store."""
    with situations.staged() as made:
        yield made


@pytest.mark.matrix
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", SITUATIONS)
def test_a_bad_situation(stage: Stage, name: str, role: str) -> None:
    """It is refused, paused or slowed, with a sentence; a plain owner that cannot see it is told so."""
    assert situations.run(stage, name, role).problem == ""

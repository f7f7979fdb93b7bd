"""What the acceptance tests share: the vendor's work of this run, made once."""

from collections.abc import Iterator

import pytest

from engine import Engine
from migrations import References
from stores import fresh


@pytest.fixture(scope="session")
def references(server: Engine) -> Iterator[References]:
    """Give what the vendor's tool makes, to compare with."""
    with fresh(server) as databases:
        yield References(databases=databases)

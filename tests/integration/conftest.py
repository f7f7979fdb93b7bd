from collections.abc import Iterator

import pytest

from engine import Engine
from refusing import STORES, Refusals
from stores import Databases


@pytest.fixture
def refusals(server: Engine, databases: Databases) -> Iterator[Refusals]:
    """Return what runs the program on this test's databases and expects a refusal."""
    made = Refusals(server=server, databases=databases)
    yield made
    for store in STORES:  # whose they are decides what is dropped after the test
        made.sql(store, f'ALTER DATABASE "{databases.name(store)}" OWNER TO "{databases.user}"')

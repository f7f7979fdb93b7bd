from collections.abc import Iterator

import pytest

from support.postgres.databases import Databases
from support.postgres.engine import Engine
from support.program.refusals import STORES, Refusals
from support.temporal.frontends import development_server


@pytest.fixture(scope="session")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Temporal's development server, one for each worker; return its frontend's address."""
    with development_server(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture
def refusals(server: Engine, databases: Databases) -> Iterator[Refusals]:
    """Return what runs the program on this test's databases and expects a refusal."""
    made = Refusals(server=server, databases=databases)
    yield made
    for store in STORES:  # whose they are decides what is dropped after the test
        made.sql(store, f'ALTER DATABASE "{databases.name(store)}" OWNER TO "{databases.user}"')

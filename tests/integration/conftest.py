from collections.abc import Iterator

import pytest

from schema_migrator.diagnosis import rehearsal
from support.postgres.databases import STORES, Databases, fresh
from support.postgres.engine import Engine
from support.program.refusals import Refusals
from support.program.rehearsed import Past
from support.program.store_driver import files
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


@pytest.fixture(scope="session")
def pasts(server: Engine) -> Iterator[dict[str, Past]]:
    """Rehearse both stores, statement by statement."""
    with fresh(server) as databases:
        found = {}
        for store in STORES:
            source = files(store)
            with databases.connect(store) as connection:
                made = rehearsal.rehearse(connection, source, closely=source.versions)
            found[store] = Past(source=source, rehearsal=made)
        yield found

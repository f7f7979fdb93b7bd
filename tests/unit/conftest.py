import os
from collections.abc import Iterator

import pytest

from schema_migrator.diagnosis import rehearsal
from support.postgres.databases import READ_BY_US, fresh
from support.postgres.engine import Engine
from support.program.rehearsed import STORES, Past
from support.program.store_driver import files


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take away every variable that our program reads; set some with what is returned."""
    for name in filter(READ_BY_US.match, list(os.environ)):
        monkeypatch.delenv(name)
    return monkeypatch


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

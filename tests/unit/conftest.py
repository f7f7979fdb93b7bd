import os

import pytest

from support.postgres.databases import READ_BY_US


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take away every variable that our program reads; set some with what is returned."""
    for name in filter(READ_BY_US.match, list(os.environ)):
        monkeypatch.delenv(name)
    return monkeypatch

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cloud.endpoint import FakeCloud
from support.cloud.identities import PROXIES, READ_BY_CLOUDS, nowhere, set_environment
from support.postgres.databases import READ_BY_US


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take away every variable that our program reads; set some with what is returned."""
    for name in filter(READ_BY_US.match, list(os.environ)):
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def nobody(clean: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Be nobody in every cloud; only TLS is set, as every token wants it."""
    for name in list(os.environ):
        if name.startswith(READ_BY_CLOUDS) or name.upper() in PROXIES:
            clean.delenv(name)
    set_environment(clean, **nowhere(tmp_path), SQL_TLS="true")
    return clean


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[FakeCloud]:
    """Run a cloud's endpoints."""
    with FakeCloud(tmp_path) as made:
        yield made

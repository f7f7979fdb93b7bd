"""Which servers start on which schema version, from the table of all releases."""

import shutil
from pathlib import Path

import pytest
from packaging.version import Version

from schema_migrator.releases.servers import Startable, newer_patch, startable
from schema_migrator.releases.source import Store
from support.postgres.databases import RELEASES
from support.program.library import LIBRARY, NEEDED, library

SERVERS = LIBRARY.servers()


def test_needs_of_every_release() -> None:
    """The folders' names give the same versions as their files."""
    found = {server.version: (str(server.needs["temporal"]), str(server.needs["visibility"])) for server in SERVERS}
    assert found == NEEDED


@pytest.mark.parametrize(
    ("store", "now", "after", "expected"),
    [
        (Store.DEFAULT, "1.18", "1.19", ("1.30", "1.32", "1.30.9", "1.32.2")),
        (Store.VISIBILITY, "1.9", "1.14", ("1.29", "1.32", "1.29.7", "1.32.2")),
        (Store.VISIBILITY, "1.5", "1.6", ("1.24.0", "1.26.1", "1.24.0", "1.26.1")),
        (Store.DEFAULT, None, "1.15", (None, "1.27.0", None, "1.27.0")),
        (Store.DEFAULT, "1.8", None, (None, None, None, None)),
        (Store.VISIBILITY, "1.99", "1.99", ("1.32", "1.32", "1.32.2", "1.32.2")),
    ],
)
def test_the_newest_that_start(
    store: Store, now: str | None, after: str | None, expected: tuple[str | None, ...]
) -> None:
    """A minor's name stands for all its releases; where only its first ones start, the last of these is named."""
    versions = [None if text is None else Version(text) for text in (now, after)]
    assert startable(SERVERS, store, *versions) == Startable(
        now=expected[0], after=expected[1], newest_now=expected[2], newest_after=expected[3]
    )


@pytest.mark.parametrize(
    ("wanted", "newest"), [("1.29.1", "1.29.7"), ("1.29.7", None), ("1.29.9", None), ("1.40.0", None)]
)
def test_a_newer_patch(wanted: str, newest: str | None) -> None:
    """Only a higher release of the same minor is named."""
    assert newer_patch(LIBRARY.versions(), wanted) == newest


def test_a_broken_release_is_left_out(tmp_path: Path) -> None:
    """Another release's folder, without files, does not keep the others from being named."""
    shutil.copytree(RELEASES / "1.29.1", tmp_path / "1.29.1")
    (tmp_path / "1.28.0").mkdir()
    assert [server.version for server in library(tmp_path).servers()] == ["1.29.1"]

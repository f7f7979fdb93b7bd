"""The releases that `make sources` fetched."""

import os
from pathlib import Path

import fetch

from schema_migrator.releases.library import Library
from support.postgres.databases import RELEASES

LIBRARY = Library(folders=(RELEASES,))


def library(root: Path, configured: str | None = None) -> Library:
    """Return the releases in one folder."""
    return Library(folders=(root,), configured=configured)


def _minor(minor: str, default: str, visibility: str, *patches: int) -> dict[str, tuple[str, str]]:
    return {f"{minor}.{patch}": (default, visibility) for patch in patches}


NEEDED = {
    **_minor("1.20", "1.9", "1.2", *range(6)),
    **_minor("1.21", "1.10", "1.3", *range(7)),
    **_minor("1.22", "1.10", "1.3", *range(8)),
    **_minor("1.23", "1.11", "1.4", *range(2)),
    **_minor("1.24", "1.12", "1.5", 0),
    **_minor("1.24", "1.12", "1.6", 1, 2, 3),
    **_minor("1.25", "1.14", "1.6", *range(3)),
    **_minor("1.26", "1.14", "1.6", 0, 1),
    **_minor("1.26", "1.14", "1.7", 2, 3),
    **_minor("1.27", "1.15", "1.9", 0),
    **_minor("1.27", "1.16", "1.9", 1, 2, 3, 4),
    **_minor("1.28", "1.17", "1.9", *range(5)),
    **_minor("1.29", "1.18", "1.9", *range(8)),
    **_minor("1.30", "1.18", "1.13", *range(10)),
    **_minor("1.31", "1.19", "1.14", *range(6)),
    **_minor("1.32", "1.19", "1.14", *range(3)),
}
"""The default and the visibility version that the servers of every release need."""

_ADDED = os.environ.get("SCHEMA_MIGRATOR_TEST_RELEASE")
PINNED = tuple(dict.fromkeys((*(pin.version for pin in fetch.read_pins(fetch.GO_SUM)), *filter(None, [_ADDED]))))
"""One release for each set of files, lowest first: those whose modules are pinned, and one more if it is named."""

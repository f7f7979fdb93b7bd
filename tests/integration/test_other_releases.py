"""What another release's tool left half done under the same versions, and that a newer target resumes it."""

import pytest

from schema_migrator.diagnosis.state import At, Between, Unrecorded
from support.postgres.databases import Databases
from support.program.store_driver import NEWEST, files, site

SPREAD = {
    ("1.20.5", "1.2"): (1, 30),
    ("1.29.7", "1.2"): (1, 54),
    ("1.30.4", "1.10"): (1, 2),
    ("1.30.4", "1.11"): (0, 8, 15),
    ("1.30.4", "1.13"): (1, 2),
    ("1.31.0", "1.14"): (1, 3, 4),
}
"""The visibility steps whose text differs from the newest release's, and some numbers of statements of each."""


def cases() -> list[object]:
    """Return every number of statements of every such step; the spread is for every run."""
    return [
        pytest.param(
            release,
            version,
            count,
            id=f"{release}-{version}-{count}",
            marks=() if count in often else pytest.mark.matrix,
        )
        for (release, version), often in SPREAD.items()
        for count in range(_total(release, version) + 1)
    ]


def _total(release: str, version: str) -> int:
    return next(len(step.statements) for step in files("visibility", release).steps if str(step.version) == version)


@pytest.mark.parametrize(("release", "version", "count"), cases())
def test_a_newer_target_resumes_what_another_release_began(
    databases: Databases, release: str, version: str, count: int
) -> None:
    """The state is recognised, no statement runs twice, and the result is that of the newest release."""
    store = site(databases, "visibility", TEMPORAL_VERSION=NEWEST).half_install(version, count, release)
    state = store.status().state
    assert isinstance(state, At | Between | Unrecorded)
    assert not isinstance(state, Unrecorded) or state.confirmed
    verdict = store.migrate().verdict
    assert verdict is not None
    assert verdict.equal
    assert verdict.version == files("visibility").latest
    assert store.verify().equal

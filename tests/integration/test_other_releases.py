"""What another release's tool left half done under the same versions, and that a newer target resumes it."""

import json
import shutil
from pathlib import Path

import pytest

from schema_migrator.diagnosis.state import At, Between, Unrecorded
from support.postgres.databases import RELEASES, Databases
from support.program.store_driver import NEWEST, files, site
from support.selection import EVERYTHING

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
    """Return every eighth number of statements of every such step, or every number; the spread is for every run."""
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
        if count in often or count % 8 == 0 or EVERYTHING
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


ADDS = "ALTER TABLE executions_visibility ADD COLUMN own int;"
COMBINED = "ALTER TABLE executions_visibility ADD COLUMN IF NOT EXISTS own int, ADD COLUMN IF NOT EXISTS another int;"
FILLS = "UPDATE executions_visibility SET own = 1;"


def written(root: Path, release: str, version: str, text: str) -> None:
    """Write the newest release's files under another version, with one more step of the visibility store."""
    for store in ("temporal", "visibility"):
        place = Path("postgresql", "v12", store, "versioned")
        if not (root / release / place).exists():
            shutil.copytree(RELEASES / NEWEST / place, root / release / place)
    step = root / release / "postgresql" / "v12" / "visibility" / "versioned" / f"v{version}"
    step.mkdir()
    manifest = {"CurrVersion": version, "MinCompatibleVersion": "0.1", "Description": "own", "AllowNoCqlFiles": True}
    (step / "manifest.json").write_text(json.dumps({**manifest, "SchemaUpdateCqlFiles": ["own.sql"] if text else []}))
    if text:
        (step / "own.sql").write_text(text)


@pytest.mark.parametrize("text", [ADDS, ADDS + FILLS], ids=["tables only", "rows too"])
def test_only_the_record_is_missing_where_no_row_is_changed(databases: Databases, tmp_path: Path, text: str) -> None:
    """After the statement that changes the table, an UPDATE of the same step may not have run: that is refused."""
    written(tmp_path, "1.98.0", "1.15", text)
    written(tmp_path, "1.99.0", "1.15", "")
    written(tmp_path, "1.99.0", "1.16", COMBINED)
    store = site(databases, "visibility", TEMPORAL_VERSION="1.99.0", SCHEMA_MIGRATOR_SOURCES=str(tmp_path)).install()
    store.run(ADDS)
    state = store.status().state
    assert isinstance(state, Unrecorded)
    assert (str(state.version), state.confirmed) == ("1.15", text == ADDS)
    if text == ADDS:
        verdict = store.migrate().verdict
        assert verdict is not None
        assert (verdict.equal, str(verdict.version)) == (True, "1.16")
    else:
        assert store.refused().exit_code == 21

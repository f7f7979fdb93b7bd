"""A version whose files differ between releases: 1.30.4 made 1.10 to 1.12 what later releases make with 1.13."""

import json
import shutil
from pathlib import Path

import pytest

from schema_migrator.errors import UnknownState
from support.postgres.databases import RELEASES, Databases
from support.program.store_driver import Site, site

STATEMENTS = {
    "v1.10": "ALTER TABLE executions_visibility ADD COLUMN TemporalReportedProblems JSONB "
    "GENERATED ALWAYS AS (search_attributes->'TemporalReportedProblems') STORED",
    "v1.11": "CREATE INDEX by_temporal_reported_problems ON executions_visibility "
    "USING GIN (namespace_id, TemporalReportedProblems jsonb_path_ops)",
}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a folder of 1.32.2 and of a release that has other files for 1.10 and 1.11."""
    shutil.copytree(RELEASES / "1.32.2", tmp_path / "1.32.2")
    shutil.copytree(RELEASES / "1.30.9", tmp_path / "1.30.4")
    versioned = tmp_path / "1.30.4" / "postgresql" / "v12" / "visibility" / "versioned"
    shutil.rmtree(versioned / "v1.13")
    for name, statement in STATEMENTS.items():
        manifest = json.loads((versioned / name / "manifest.json").read_text()) | {"SchemaUpdateCqlFiles": ["a.sql"]}
        (versioned / name / "manifest.json").write_text(json.dumps(manifest))
        (versioned / name / "a.sql").write_text(statement)
    return tmp_path


@pytest.fixture
def older(databases: Databases, sources: Path) -> Site:
    """Install 1.12 of that release; return the site under 1.32.2."""
    store = site(databases, "visibility", SCHEMA_MIGRATOR_SOURCES=str(sources))
    store.migrate(TEMPORAL_VERSION="1.30.4", SCHEMA_MIGRATOR_NO_VERIFY="true")
    return store


def test_recognised_and_upgraded(older: Site) -> None:
    """It is no drift, whatever 1.32.2 makes of 1.12, and goes on to 1.14."""
    verdict = older.verify()
    assert (str(verdict.version), verdict.equal, verdict.difference.extra) == ("1.12", True, ())
    done = older.migrate(SCHEMA_MIGRATOR_ON_DRIFT="fail")
    assert [str(one.version) for one in done.outcomes] == ["1.13", "1.14"]
    assert done.verdict is not None
    assert done.verdict.equal


def test_recognised_after_a_rollback(older: Site, sources: Path) -> None:
    """Of the releases that have the recorded version, the one whose files the tables match is compared with."""
    shutil.copytree(RELEASES / "1.29.1", sources / "1.29.1")
    verdict = older.verify(TEMPORAL_VERSION="1.29.1")
    assert (str(verdict.version), verdict.ahead, verdict.equal, verdict.difference.extra) == ("1.12", True, True, ())


def test_recognised_without_its_row(older: Site) -> None:
    """A lost version row is recorded again, as the release that the tables match."""
    older.run("UPDATE schema_version SET curr_version = '0.0'")
    refusal = older.refused()
    assert isinstance(refusal, UnknownState)
    assert "has the tables of 1.11, but 0.0 is recorded for it" in refusal.message
    done = older.migrate(SCHEMA_MIGRATOR_ADOPT="true")
    assert done.verdict is not None
    assert done.verdict.equal

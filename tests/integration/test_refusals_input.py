"""Settings and files that are refused before a database is touched, and SQL that fails when it runs."""

import json
import shutil
from pathlib import Path

import pytest

from support.postgres.databases import RELEASES, Databases
from support.program.command import run_cli
from support.program.library import NEEDED
from support.program.refusals import Refusals

CARRIED = "schema-migrator releases lists the available ones (1.20.0 to 1.32.2"
VISIBILITY = "1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with a copy of release 1.29.1."""
    shutil.copytree(RELEASES / "1.29.1", tmp_path / "1.29.1")
    return tmp_path


@pytest.fixture
def step(root: Path) -> Path:
    """Return the folder of the copy's visibility 1.2."""
    return root / "1.29.1" / "postgresql" / "v12" / "visibility" / "versioned" / "v1.2"


def broken(refusals: Refusals, code: int, root: Path, *args: str) -> list[str]:
    """Return the refusal of the copy."""
    return refusals.refused(code, *args, SCHEMA_MIGRATOR_SOURCES=str(root), TEMPORAL_VERSION="1.29.1")


def test_release_not_named(refusals: Refusals) -> None:
    """Which server's files are meant has to be said."""
    found = refusals.refused(2, TEMPORAL_VERSION="")
    assert found == [
        f"error: the server version is not set; set TEMPORAL_VERSION to the version of the servers; {CARRIED})"
    ]


def test_release_not_carried(refusals: Refusals) -> None:
    """Another release does not stand in for the one that is named."""
    found = refusals.refused(2, "--temporal-version", "1.29.99")
    (sentence,) = found
    assert sentence == (
        f'error: release "1.29.99" is not available in "{RELEASES}"; {CARRIED}; of 1.29: 1.29.0 to 1.29.7); give the'
        " files of another release by SCHEMA_MIGRATOR_SOURCES"
    )


def test_unknown_target(refusals: Refusals) -> None:
    """A target that the release does not have is refused, with those that it has."""
    found = refusals.refused(2, TEMPORAL_VERSION="1.29.1", VISIBILITY_TARGET_VERSION="1.10")
    assert found == [
        (
            "error: the visibility target version is 1.10, which release 1.29.1 does not have; "
            f"use one of {VISIBILITY}, or another TEMPORAL_VERSION"
        )
    ]


def test_target_that_is_no_version(refusals: Refusals) -> None:
    """A word is no target."""
    found = refusals.refused(2, "--visibility-target-version", "latest", TEMPORAL_VERSION="1.29.1")
    assert found == [
        (f'error: the visibility target version is "latest", expected a version such as "1.9"; use one of {VISIBILITY}')
    ]


def test_broken_manifest(refusals: Refusals, root: Path, step: Path) -> None:
    """A manifest that is not valid JSON is named, and neither store is touched."""
    path = step / "manifest.json"
    path.write_text("{")
    assert broken(refusals, 2, root) == [
        (
            f'error: "{path}" is not valid JSON: Expecting property name enclosed in double quotes: line 1'
            " column 2 (char 1); "
            "fetch the release's files again"
        )
    ]


def test_missing_file(refusals: Refusals, root: Path, step: Path) -> None:
    """A missing SQL file is named, and neither store is touched."""
    path = step / "advanced_visibility.sql"
    path.unlink()
    assert broken(refusals, 2, root) == [
        f'error: "{path}" cannot be read (No such file or directory); fetch the release\'s files again'
    ]


def test_missing_version(refusals: Refusals, root: Path, step: Path) -> None:
    """A gap in the versions is named, and neither store is touched."""
    shutil.rmtree(step)
    assert broken(refusals, 2, root) == [
        f'error: "{step.parent}" jumps from 1.1 to 1.3, expected v1.2 in between; fetch the release\'s files again'
    ]


def test_sql_with_a_syntax_error(refusals: Refusals, root: Path, step: Path) -> None:
    """The place is shown by file, line and a caret under the character, and all of the store is as before."""
    path = step / "advanced_visibility.sql"
    path.write_text("-- ö\nSELECT 'ü',\n\t'ö' AS a b;\n" + path.read_text())
    assert broken(refusals, 34, root, "--store", "visibility") == [
        (
            'error: visibility: PostgreSQL refused a statement (42601): syntax error at or near "b"; '
            "nothing of its transaction remains"
        ),
        "visibility/v1.2/advanced_visibility.sql:3",
        "  \t'ö' AS a b",
        "  \t         ^",
    ]


def test_sql_that_fails_as_it_runs(refusals: Refusals, databases: Databases, root: Path, step: Path) -> None:
    """A statement without a place in its text is shown itself, with the server's own words."""
    path = step / "advanced_visibility.sql"
    line = path.read_text().count("\n") + 2
    path.write_text(path.read_text() + "\nINSERT INTO schema_version -- again\n  SELECT * FROM schema_version;\n")
    assert broken(refusals, 34, root, "--store", "visibility") == [
        (
            "error: visibility: PostgreSQL refused a statement (23505): duplicate key value violates unique constraint "
            f'"schema_version_pkey" (Key (version_partition, db_name)=(0, {databases.visibility}) already exists); '
            "nothing of its transaction remains"
        ),
        f"visibility/v1.2/advanced_visibility.sql:{line}",
        "  INSERT INTO schema_version SELECT * FROM schema_version",
    ]


def test_sql_that_fails_in_an_upgrade(refusals: Refusals, root: Path, step: Path) -> None:
    """A step that fails leaves a store that is in use as it was, too."""
    refusals.migrate("--store", "visibility", VISIBILITY_TARGET_VERSION="1.1", TEMPORAL_VERSION="1.29.1")
    path = step / "advanced_visibility.sql"
    path.write_text("SELECT nix FROM executions_visibility;")
    assert broken(refusals, 34, root, "--store", "visibility") == [
        (
            'error: visibility: PostgreSQL refused a statement (42703): column "nix" does not exist; '
            "nothing of its transaction remains"
        ),
        "visibility/v1.2/advanced_visibility.sql:1",
        "  SELECT nix FROM executions_visibility",
        "         ^",
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"SCHEMA_MIGRATOR_TIMEOUT": "1"},
            (
                "SCHEMA_MIGRATOR_TIMEOUT is set, but there is no such setting; "
                "unset it (schema-migrator migrate --help lists all settings)"
            ),
        ),
        ({"SQL_HSOT": "db"}, "SQL_HSOT is set, but there is no such setting; did you mean SQL_HOST?"),
        (
            {"SQL_PORT": "tcp://10.0.0.1:5432"},
            (
                'SQL_PORT is "tcp://10.0.0.1:5432", which Kubernetes wrote for a Service named "sql", not a port; '
                "set SQL_PORT yourself or set enableServiceLinks: false in the pod"
            ),
        ),
        ({"SQL_PLUGIN": "mysql8"}, 'SQL_PLUGIN is "mysql8", expected postgres12 or postgres12_pgx'),
        ({"SQL_TLS": "yes please"}, 'SQL_TLS is "yes please", expected true or false'),
    ],
)
def test_settings(refusals: Refusals, changes: dict[str, str], sentence: str) -> None:
    """Settings that cannot be meant are refused in one sentence."""
    assert refusals.refused(2, **changes) == [f"error: {sentence}"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--lock-timeot", "1"), "unknown flag --lock-timeot; see schema-migrator migrate --help"),
        (("--lock-timeout",), "argument --lock-timeout: expected one argument; see schema-migrator migrate --help"),
        (("--sql-po=1",), "unknown flag --sql-po; see schema-migrator migrate --help"),
        (("now",), "an argument belongs to no flag; see schema-migrator migrate --help"),
    ],
)
def test_usage(refusals: Refusals, args: tuple[str, ...], sentence: str) -> None:
    """A flag that does not exist, or lacks its value, is refused like a wrong setting; none is abbreviated."""
    assert refusals.refused(2, *args) == [f"error: {sentence}"]


def test_one_database_by_name(refusals: Refusals, databases: Databases) -> None:
    """Both stores in one database is refused before connecting."""
    assert refusals.refused(2, VISIBILITY_SQL_DATABASE=databases.default) == [
        (
            f'error: the default and visibility stores are in the same database "{databases.default}",'
            " expected a database for each; "
            "set DEFAULT_SQL_DATABASE and VISIBILITY_SQL_DATABASE to different databases"
        )
    ]


def test_one_database_by_two_names(refusals: Refusals, databases: Databases) -> None:
    """Two hosts that turn out to be one database are refused as well."""
    found = refusals.refused(
        2, SQL_HOST="127.0.0.1", VISIBILITY_SQL_HOST="localhost", VISIBILITY_SQL_DATABASE=databases.default
    )
    assert found == [
        (
            "error: the settings of the default and visibility stores lead to the same database,"
            " expected a database for each; "
            "set DEFAULT_SQL_DATABASE and VISIBILITY_SQL_DATABASE to different databases"
        )
    ]


def test_refusals_are_not_results(refusals: Refusals) -> None:
    """With --output json a failed run prints nothing to standard output."""
    done = refusals.run(2, "--output", "json", TEMPORAL_VERSION="0.1")
    assert done.stdout == ""


def test_releases_need_no_database(databases: Databases) -> None:
    """Listing the files asks no server."""
    done = run_cli(databases.env() | {"SQL_PORT": "1"}, "releases", "--output", "json")
    assert done.code == 0
    assert [release["server"] for release in json.loads(done.stdout)["releases"]] == list(NEEDED)

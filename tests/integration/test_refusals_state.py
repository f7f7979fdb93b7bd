"""Databases whose records or tables are not those of the store: nothing is guessed and nothing is touched."""

import json

import pytest

from support.postgres.databases import STORES, Databases
from support.program.command import run_cli
from support.program.refusals import Refusals

SWAP = "swap DEFAULT_SQL_DATABASE and VISIBILITY_SQL_DATABASE"


def swapped(databases: Databases) -> dict[str, str]:
    """Return settings that take each store for the other."""
    return {"DEFAULT_SQL_DATABASE": databases.visibility, "VISIBILITY_SQL_DATABASE": databases.default}


def test_swapped_at_target(refusals: Refusals, databases: Databases) -> None:
    """Each database is named with a table that gives away which store it is."""
    refusals.migrate(TEMPORAL_VERSION="1.29.1")
    expected = [
        (
            f'error: default: database "{databases.visibility}" has a table of the visibility store, '
            f'"executions_visibility", expected the default store; {SWAP}'
        ),
        (
            f'error: visibility: database "{databases.default}" has a table of the default store, '
            f'"activity_info_maps", expected the visibility store; {SWAP}'
        ),
    ]
    for command in ("migrate", "plan", "status", "verify"):
        assert refusals.refused(20, command=command, TEMPORAL_VERSION="1.29.1", **swapped(databases)) == expected


@pytest.mark.parametrize(("made", "asked"), [("1.32.2", "1.25.1"), ("1.25.1", "1.32.2")])
def test_swapped_and_of_another_release(refusals: Refusals, databases: Databases, made: str, asked: str) -> None:
    """A version above or below the target, read from the other store, does not hide that they are swapped."""
    refusals.migrate(TEMPORAL_VERSION=made)
    found = refusals.refused(20, TEMPORAL_VERSION=asked, **swapped(databases))
    assert [line.rpartition("; ")[2] for line in found] == [SWAP, SWAP]


def test_swapped_on_the_first_day(refusals: Refusals, databases: Databases) -> None:
    """One store installed, the other one fresh: the installed one is not taken for the other."""
    refusals.migrate("--store", "visibility")
    found = refusals.refused(20, **swapped(databases))
    assert found == [
        (
            f'error: default: database "{databases.visibility}" has a table of the visibility store, '
            f'"executions_visibility", expected the default store; {SWAP}'
        )
    ]


def test_both_stores_in_one_database(refusals: Refusals) -> None:
    """Tables of the other store beside those of this one are refused, whichever was first."""
    refusals.migrate("--store", "visibility", VISIBILITY_TARGET_VERSION="1.1")
    refusals.sql("visibility", "CREATE TABLE history_node (a int)")
    found = refusals.refused(20, "--store", "visibility")
    name = refusals.databases.visibility
    assert found == [
        (
            f'error: visibility: database "{name}" has a table of the default store, "history_node", '
            "beside those of the visibility store; give each store its own database"
        )
    ]


def record(refusals: Refusals, change: str) -> None:
    """Install visibility 1.9 and then change the version row."""
    refusals.migrate("--store", "visibility", TEMPORAL_VERSION="1.29.1")
    refusals.sql("visibility", change)


def only(refusals: Refusals, *args: str, **changes: str) -> str:
    """Return the one sentence with which the visibility store is refused."""
    (sentence,) = refusals.refused(21, "--store", "visibility", *args, **{"TEMPORAL_VERSION": "1.29.1", **changes})
    return sentence


def begun(refusals: Refusals) -> str:
    """Return how a sentence about the visibility database begins."""
    return f'error: visibility: database "{refusals.databases.visibility}"'


@pytest.mark.parametrize(
    ("column", "curr", "lowest"),
    [("curr_version", "garbage", "0.1"), ("min_compatible_version", "1.9", "garbage")],
)
def test_garbage_is_recorded(refusals: Refusals, column: str, curr: str, lowest: str) -> None:
    """A recorded version that is none is shown and not overwritten."""
    record(refusals, f"UPDATE schema_version SET {column} = 'garbage'")
    assert only(refusals) == (
        f'{begun(refusals)}: schema_version records "{curr}", at least "{lowest}"; '
        "expected two versions such as 1.9 and 0.1: find out who wrote that row"
    )


@pytest.mark.parametrize(
    ("change", "recorded"),
    [
        ("DELETE FROM schema_version", "no version"),
        ("UPDATE schema_version SET curr_version = '0.0'", "0.0"),
        ("UPDATE schema_version SET curr_version = '1.8', db_name = 'old'", "no version"),
    ],
)
def test_version_row_lost(refusals: Refusals, change: str, recorded: str) -> None:
    """Tables of a version that is not recorded are recognised; what to record is left to a person."""
    record(refusals, change)
    assert only(refusals) == (
        f"{begun(refusals)} has the tables of 1.9, but {recorded} is recorded for it; "
        "if 1.9 is right, record it: schema-migrator migrate --adopt"
    )


def test_version_without_tables(refusals: Refusals) -> None:
    """A recorded version whose tables are all gone is no fresh database."""
    record(refusals, "DROP TABLE executions_visibility")
    assert only(refusals) == (
        f"{begun(refusals)}: version 1.9 is recorded, but none of the store's tables is there; "
        "are the tables in another schema (search_path), or was the database emptied?"
    )


def test_target_below_what_the_schema_works_with(refusals: Refusals) -> None:
    """An older server than the schema works with is refused, although the schema is newer."""
    record(refusals, "UPDATE schema_version SET min_compatible_version = '1.8'")
    assert only(refusals, VISIBILITY_TARGET_VERSION="1.5") == (
        f"{begun(refusals)} is at 1.9, which works with servers from 1.8 on, but the target is 1.5; "
        "set TEMPORAL_VERSION to the release that runs, or a newer one"
    )


def test_newer_than_the_target(refusals: Refusals, databases: Databases) -> None:
    """A newer schema that works with the target is left alone, exit 0, with a warning."""
    refusals.migrate(TEMPORAL_VERSION="1.32.2")
    before = refusals.picture()
    done = run_cli(refusals.env(TEMPORAL_VERSION="1.29.1"), "migrate")
    assert done.code == 0
    events = [json.loads(line) for line in done.stderr.splitlines()]
    ahead = {event["store"]: event for event in events if event["event"] == "schema.ahead"}
    assert set(ahead) == set(STORES)
    assert (ahead["default"]["version"], ahead["default"]["target"]) == ("1.19", "1.18")
    assert ahead["default"]["level"] == "warning"
    assert refusals.picture() == before
    assert databases.default in done.stdout

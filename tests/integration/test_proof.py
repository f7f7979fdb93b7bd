"""What verify names, what migrate refuses to bless, and what a rehearsal leaves alone."""

import json

import pytest

from support.postgres.databases import Databases, dump
from support.program.command import run_cli

# What a person does by hand to a store at 1.9 of 1.29.1, and what verify calls it.
DRIFT = {
    "DROP INDEX by_history_size_bytes": ("missing", "index", "by_history_size_bytes"),
    "ALTER TABLE executions_visibility ALTER task_queue SET DEFAULT 'x'": ("different", "column", "task_queue"),
    "ALTER TABLE executions_visibility ALTER encoding TYPE varchar(63)": ("different", "column", "encoding"),
    "ALTER TABLE executions_visibility ALTER status DROP NOT NULL": ("different", "column", "status"),
    "CREATE OR REPLACE FUNCTION convert_ts(s varchar) RETURNS timestamp LANGUAGE sql AS 'SELECT now()::timestamp'": (
        "different",
        "function",
        "convert_ts(s character varying)",
    ),
    "CREATE INDEX mine ON executions_visibility (memo)": ("extra", "index", "mine"),
    "ALTER TABLE executions_visibility ADD own int": ("extra", "column", "own"),
    "CREATE TABLE own_table (a int PRIMARY KEY, b int UNIQUE)": ("extra", "table", "own_table"),
}


@pytest.fixture
def env(databases: Databases) -> dict[str, str]:
    """Install both stores at 1.29.1; return the environment for the visibility store."""
    env = databases.env() | {"TEMPORAL_VERSION": "1.29.1"}
    assert run_cli(env, "migrate").code == 0
    return env | {"SCHEMA_MIGRATOR_STORES": "visibility"}


def verdict(env: dict[str, str]) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Return verify's exit code and its finding."""
    ended = run_cli(env | {"SCHEMA_MIGRATOR_OUTPUT": "json"}, "verify")
    return ended.code, json.loads(ended.stdout)["stores"][0]


def names(found: dict[str, list[dict[str, str]]]) -> set[tuple[str, str, str]]:
    """Return what was found, each with its list and kind."""
    return {(part, one["kind"], one["name"]) for part in ("missing", "different", "extra") for one in found[part]}


def test_names_each_drift_and_nothing_else_and_repairs_it(databases: Databases, env: dict[str, str]) -> None:
    """Each change made by hand is named, exactly, and the SQL that is shown makes the schema equal again."""
    with databases.connect("visibility") as connection:
        for statement in DRIFT:
            connection.execute(statement.encode())
    code, found = verdict(env)
    assert (code, names(found)) == (23, set(DRIFT.values()))
    with databases.connect("visibility") as connection:
        for one in (*found["missing"], *found["different"]):
            connection.execute(one["repair"].encode())
    code, found = verdict(env)
    assert (code, names(found)) == (0, {one for one in DRIFT.values() if one[0] == "extra"})


def test_an_invalid_index_is_named_and_built_again(databases: Databases, env: dict[str, str]) -> None:
    """An index that an interrupted build left invalid is different, and migrate builds it again on its way."""
    with databases.admin(databases.visibility) as admin:
        admin.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_build_ids'::regclass")
    assert names(verdict(env)[1]) == {("different", "index", "by_build_ids")}
    upgraded = env | {"TEMPORAL_VERSION": "1.32.2"}
    assert run_cli(upgraded, "migrate").code == 0
    assert verdict(upgraded)[0] == 0


def test_drift_is_warned_of_or_refused(databases: Databases, env: dict[str, str]) -> None:
    """An upgrade names what was changed before it; with --on-drift fail it refuses and touches nothing."""
    with databases.connect("visibility") as connection:
        connection.execute("DROP INDEX by_history_size_bytes")
    upgrade = env | {"TEMPORAL_VERSION": "1.32.2"}
    before = dump(databases.engine, databases.visibility)
    refused = run_cli(upgrade, "migrate", "--on-drift", "fail")
    assert refused.code == 23
    assert "1 object of" in refused.stderr
    assert "index executions_visibility.by_history_size_bytes" in refused.stderr
    assert dump(databases.engine, databases.visibility) == before
    warned = run_cli(upgrade, "migrate")
    assert warned.code == 0
    assert "schema.drift" in warned.stderr
    assert "DIFFERS: see schema-migrator verify" in " ".join(warned.stdout.split())


def test_a_rehearsal_leaves_the_live_schema_alone(databases: Databases, env: dict[str, str]) -> None:
    """A plan, with its DROP INDEX of 1.6 and its look-ups by name, changes nothing and leaves no schema behind."""
    with databases.connect("visibility") as connection:
        connection.execute("UPDATE schema_version SET curr_version = '1.5'")
        connection.execute("ALTER TABLE executions_visibility ALTER root_workflow_id DROP NOT NULL")
        connection.execute("CREATE SCHEMA other CREATE TABLE executions_visibility_copy (a int)")
    before = dump(databases.engine, databases.visibility)
    assert run_cli(env | {"TEMPORAL_VERSION": "1.32.2"}, "verify").code == 23
    assert dump(databases.engine, databases.visibility) == before


def test_a_second_schema_with_the_same_table_does_not_disturb_a_rehearsal(
    databases: Databases, env: dict[str, str]
) -> None:
    """The DO blocks of 1.13 and 1.14 find one table by name in the rehearsal, however many there are."""
    with databases.connect("visibility") as connection:
        connection.execute("CREATE SCHEMA other CREATE TABLE executions_visibility (a int)")
    assert run_cli(env | {"TEMPORAL_VERSION": "1.32.2"}, "verify").code == 0
    refused = run_cli(env | {"TEMPORAL_VERSION": "1.32.2"}, "migrate")
    assert refused.code == 12
    assert "also in the schema other" in refused.stderr

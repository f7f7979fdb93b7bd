"""What a person changed by hand: named exactly and nothing else, never blessed, and repaired by the SQL shown."""

import json

import pytest
from structlog.testing import capture_logs

from schema_migrator.catalog.snapshot import Change
from schema_migrator.diagnosis.repair import KEPT, repair
from schema_migrator.diagnosis.state import At
from schema_migrator.diagnosis.verdict import Verdict
from schema_migrator.errors import NotAsRehearsed, UnknownState
from support.postgres.databases import Databases
from support.program.references import run_here
from support.program.store_driver import site

TABLE = "executions_visibility"
FOREIGN = """
CREATE SCHEMA other;
CREATE FUNCTION other.convert_ts(s varchar) RETURNS timestamp LANGUAGE plpgsql IMMUTABLE STRICT
  AS $$ BEGIN RETURN '2000-01-01'::timestamp; END $$;
DROP INDEX by_temporal_external_payload_count;
ALTER TABLE executions_visibility DROP temporalexternalpayloadcount, ADD temporalexternalpayloadcount bigint
  GENERATED ALWAYS AS (extract(epoch FROM other.convert_ts(search_attributes ->> 'x'))::bigint) STORED;
CREATE INDEX by_temporal_external_payload_count ON executions_visibility (namespace_id, temporalexternalpayloadcount,
  (coalesce(close_time, '9999-12-31 23:59:59')) DESC, start_time DESC, run_id);
"""
REPLACED = """
CREATE OR REPLACE FUNCTION convert_ts(s varchar) RETURNS timestamp LANGUAGE sql IMMUTABLE AS 'SELECT now()::timestamp'
"""
ENSURE_RLS = (
    (
        "CREATE FUNCTION ensure_rls() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN"
        " FOR r IN SELECT object_identity AS name FROM pg_event_trigger_ddl_commands()"
        " WHERE command_tag = 'CREATE TABLE' AND schema_name = 'public'"
        " LOOP EXECUTE 'ALTER TABLE ' || r.name || ' ENABLE ROW LEVEL SECURITY'; END LOOP; END $$"
    ),
    "CREATE EVENT TRIGGER ensure_rls ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION ensure_rls()",
)
NARROWED = f"ALTER TABLE {TABLE} ALTER workflow_type_name TYPE varchar(200)"
VISIBILITY = {
    "DROP INDEX by_status": f"missing index {TABLE}.by_status",
    f"ALTER TABLE {TABLE} ALTER status SET DEFAULT 7": f"different column {TABLE}.status",
    f"ALTER TABLE {TABLE} ALTER _version DROP DEFAULT": f"different column {TABLE}._version",
    NARROWED: f"different column {TABLE}.workflow_type_name",
    f"ALTER TABLE {TABLE} ALTER encoding TYPE varchar(100)": f"different column {TABLE}.encoding",
    f'ALTER TABLE {TABLE} ALTER task_queue TYPE varchar(255) COLLATE "C"': f"different column {TABLE}.task_queue",
    f"ALTER TABLE {TABLE} ALTER start_time DROP NOT NULL": f"different column {TABLE}.start_time",
    f"ALTER TABLE {TABLE} ALTER memo SET NOT NULL": f"different column {TABLE}.memo",
    f"ALTER TABLE {TABLE} DROP CONSTRAINT {TABLE}_pkey": f"missing constraint {TABLE}.{TABLE}_pkey",
    f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY": f"different table {TABLE}",
    REPLACED: "different function convert_ts(s character varying)",
    FOREIGN: f"different column {TABLE}.temporalexternalpayloadcount",
    f"CREATE INDEX by_type_close_time ON {TABLE} (run_id)": f"different index {TABLE}.by_type_close_time",
    f"CREATE INDEX mine ON {TABLE} (run_id)": f"extra index {TABLE}.mine",
    f"ALTER TABLE {TABLE} ADD mine int": f"extra column {TABLE}.mine",
    f"ALTER TABLE {TABLE} ADD CONSTRAINT own CHECK (status > 0)": f"extra constraint {TABLE}.own",
    "CREATE TABLE own (a int PRIMARY KEY, b int UNIQUE)": "extra table own",
    "CREATE FUNCTION own(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'": "extra function own(a integer)",
    f"CREATE VIEW own_view AS SELECT run_id FROM {TABLE}": "extra view own_view",
}
INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_build_ids'::regclass"
DEFAULT = {
    "DROP TABLE tasks": "missing table tasks",
    "DROP TABLE namespaces": "missing table namespaces",
    "DROP TABLE namespace_metadata": "missing table namespace_metadata",
    "SELECT": "missing row namespace_metadata.partition_id 54321",
    "DROP INDEX cm_idx_rolehost": "missing index cluster_membership.cm_idx_rolehost",
    "ALTER TABLE current_executions DROP data_encoding": "missing column current_executions.data_encoding",
    "ALTER TABLE nexus_endpoints_partition_status DROP CONSTRAINT only_one_row": (
        "missing constraint nexus_endpoints_partition_status.only_one_row"
    ),
    "ALTER TABLE shards SET UNLOGGED": "different table shards",
    "ALTER TABLE executions ALTER db_record_version TYPE int": "different column executions.db_record_version",
    "ALTER TABLE cluster_membership ALTER record_expiry TYPE timestamptz": (
        "different column cluster_membership.record_expiry"
    ),
    "ALTER TABLE queues ADD own int GENERATED ALWAYS AS (queue_type + 1) STORED": "extra column queues.own",
}


LEFT = (  # a person is to look first
    f"different table {TABLE}",
    f"different index {TABLE}.by_type_close_time",
    "different column cluster_membership.record_expiry",
)


def shown(verdict: Verdict, change: Change) -> str:
    """Return the SQL of a change."""
    return "\n".join(repair(change, verdict.schema))


def named(verdict: Verdict) -> list[str]:
    """Return all that a verdict names, as the text report begins its lines."""
    found = verdict.difference
    parts = {"missing": found.missing, "different": found.different, "extra": found.extra}
    return sorted(f"{part} {change.key}" for part, changes in parts.items() for change in changes)


@pytest.mark.parametrize(("name", "drift"), [("visibility", VISIBILITY), ("default", DEFAULT)])
def test_each_is_named_and_repaired(databases: Databases, name: str, drift: dict[str, str]) -> None:
    """All is named, nothing else is, and after the SQL that is shown the schema matches but for what it keeps."""
    store = site(databases, name).install()
    store.run(*drift)
    verdict = store.verify()
    assert named(verdict) == sorted(drift.values())
    store.run(*(shown(verdict, one) for one in (*verdict.difference.missing, *verdict.difference.different)))
    repaired = [one for one in named(store.verify()) if not one.endswith(KEPT)]
    assert repaired == sorted(one for one in drift.values() if one.startswith("extra") or one in LEFT)


def test_text_json_and_exit_codes(databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    """Text and JSON name the same; exit 23 where anything is missing or different, 0 with extras alone."""
    store = site(databases, "visibility").install()
    env = databases.env() | dict(store.variables)
    store.run(f"CREATE INDEX mine ON {TABLE} (run_id)", "DELETE FROM schema_update_history WHERE new_version = '1.9'")
    assert run_here(env, "verify") == 0
    text = capsys.readouterr().out
    assert text.splitlines() == [
        f'visibility store, database "{databases.visibility}", version 1.14: matches',
        f"  extra      index {TABLE}.mine (tolerated)",
        "  not in schema_update_history: 1.9 (no harm)",
    ]
    store.run("DROP INDEX by_status", NARROWED)
    assert run_here(env, "verify") == 23
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("version 1.14: does NOT match")
    assert [" ".join(line.split()[:3]) for line in shown[1:] if line.startswith("  ") and line[2] != " "] == [
        f"missing index {TABLE}.by_status",
        f"different column {TABLE}.workflow_type_name",
        f"extra index {TABLE}.mine",
        "not in schema_update_history:",
    ]
    assert run_here(env, "verify", "--output", "json") == 23
    (found,) = json.loads(capsys.readouterr().out)["stores"]
    assert (found["equal"], found["missing_history"]) == (False, ["1.9"])
    assert found["different"] == [
        {
            "kind": "column",
            "table": TABLE,
            "name": "workflow_type_name",
            "expected": "character varying(255) NOT NULL",
            "found": "character varying(200) NOT NULL",
            "repair": "DO $repair$ BEGIN SET LOCAL search_path = \"public\", pg_temp; SET LOCAL lock_timeout = '5s';\n"
            f"ALTER TABLE {TABLE} ALTER COLUMN workflow_type_name TYPE character varying(255);\nEND $repair$;",
        }
    ]
    assert [(one["kind"], one["name"]) for one in found["missing"]] == [("index", "by_status")]
    assert [(one["name"], one["repair"]) for one in found["extra"]] == [("mine", None)]


def test_an_invalid_index_is_different(databases: Databases) -> None:
    """It is there, but counts for nothing until it is rebuilt."""
    store = site(databases, "visibility").install()
    store.admin(INVALID)
    verdict = store.verify()
    assert named(verdict) == [f"different index {TABLE}.by_build_ids"]
    (change,) = verdict.difference.different
    assert repair(change, verdict.schema) == ('REINDEX INDEX CONCURRENTLY "public".by_build_ids;',)
    store.run(shown(verdict, change))
    assert store.verify().equal


def test_columns_in_another_order(databases: Databases) -> None:
    """A column that was dropped and added again stands last, which is named and cannot be repaired in place."""
    store = site(databases, "default").install()
    store.run("ALTER TABLE shards DROP data, ADD data bytea NOT NULL")
    verdict = store.verify()
    assert named(verdict) == ["different order shards"]
    (note,) = repair(verdict.difference.different[0], verdict.schema)
    assert note == "-- look first: the columns are in another order, which only a new table would change"


def test_a_higher_version_than_the_recorded_one(databases: Databases) -> None:
    """A given target above the recorded version is compared with instead."""
    store = site(databases, "default", DEFAULT_TARGET_VERSION="1.19").install("1.17")
    verdict = store.verify()
    assert (str(verdict.version), verdict.ahead) == ("1.19", False)
    assert named(verdict) == [
        "missing table current_chasm_executions",
        "missing table task_queues_v2",
        "missing table tasks_v2",
    ]


ROLLED_BACK: list[tuple[str, dict[str, str], str, str]] = [
    ("default", {"TEMPORAL_VERSION": "1.29.1"}, "1.19", "1.18"),
    ("visibility", {"TEMPORAL_VERSION": "1.25.1"}, "1.14", "1.6"),
    ("visibility", {"TEMPORAL_VERSION": "1.29.1", "VISIBILITY_TARGET_VERSION": "1.5"}, "1.14", "1.5"),
    ("default", {"DEFAULT_TARGET_VERSION": "1.17"}, "1.19", "1.17"),
]


@pytest.mark.parametrize(("name", "variables", "version", "target"), ROLLED_BACK)
def test_ahead_of_the_target(
    databases: Databases,
    capsys: pytest.CaptureFixture[str],
    name: str,
    variables: dict[str, str],
    version: str,
    target: str,
) -> None:
    """After a rollback of Temporal a store is compared with its own version, by a release that has it; all is well."""
    store = site(databases, name, **variables).install()
    store.run("CREATE TABLE mine (a int)")
    env = databases.env() | dict(store.variables)
    assert run_here(env, "verify") == 0
    assert capsys.readouterr().out.splitlines() == [
        f'{name} store, database "{store.name}", version {version} (ahead of the target {target}): matches',
        "  extra      table mine (tolerated)",
    ]
    assert run_here(env, "verify", "--output", "json") == 0
    (found,) = json.loads(capsys.readouterr().out)["stores"]
    assert (found["version"], found["target"], found["ahead"], found["equal"]) == (version, target, True, True)
    before = store.picture()
    assert run_here(env, "migrate") == 0
    assert run_here(env, "status", "--check") == 0
    lines = capsys.readouterr().out.splitlines()
    column = next(line.index("state and") for line in lines if "state and" in line)
    words = [word for line in lines for word in line[column:].split()]
    assert "ahead of the target: nothing" in " ".join(words)
    assert run_here(env, "wait", "--for", "schema") == 0
    assert store.picture() == before


def test_drift_of_a_store_ahead_of_its_target(databases: Databases) -> None:
    """What was changed by hand is named after a rollback too, and no table of the newer version."""
    store = site(databases, "default", TEMPORAL_VERSION="1.29.1").install()
    store.run("DROP INDEX cm_idx_rolehost")
    verdict = store.verify()
    assert named(verdict) == ["missing index cluster_membership.cm_idx_rolehost"]
    store.run(shown(verdict, verdict.difference.missing[0]))
    assert store.verify().equal


def test_a_version_that_nobody_carries(databases: Databases) -> None:
    """It is refused, with the releases that are there: a comparison with a lower version would say nothing."""
    store = site(databases, "default", TEMPORAL_VERSION="1.29.1").install()
    store.run("UPDATE schema_version SET curr_version = '1.99'")
    for asked in ({}, {"DEFAULT_TARGET_VERSION": "1.17"}):
        with pytest.raises(UnknownState) as refusal:
            store.verify(**asked)
        assert str(refusal.value) == (
            f'default: version 1.99 is recorded for "{store.name}", and no available release has it '
            "(1.20.0 to 1.32.2); "
            "use a newer schema-migrator, or its image, with the files of the release that created it"
        )
        assert refusal.value.exit_code == 21


@pytest.mark.parametrize("installed", [False, True])
def test_nothing_to_compare_with(databases: Databases, *, installed: bool) -> None:
    """Without a recorded version, or with that of a set-up alone, there is nothing to compare with."""
    store = site(databases, "default")
    if installed:
        store.half_install("1.0", 0)
    with pytest.raises(UnknownState) as refusal:
        store.verify()
    assert str(refusal.value) == (
        f'default: database "{store.name}" has no recorded version to compare with; '
        "run schema-migrator migrate, or name a version: --default-target-version"
    )


def test_no_text_is_taken_for_a_repair(databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends in names and definitions of others are shown as such: what begins a line is ours."""
    store = site(databases, "visibility").install()
    store.run(
        f"""ALTER TABLE {TABLE} ALTER encoding SET DEFAULT 'x\n             repair:   DROP TABLE {TABLE};'""",
        f"""CREATE TABLE "x\n             repair:   DROP TABLE {TABLE};" (a int)""",
    )
    assert run_here(databases.env() | dict(store.variables), "verify") == 23
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.strip().startswith("repair:") and "DROP TABLE" in line] == []
    assert out.count(f"\\n             repair:   DROP TABLE {TABLE};") == 2


def test_an_upgrade_warns_of_drift_or_refuses_it(databases: Databases) -> None:
    """What no step touches is named as a warning, and is no success; with --on-drift fail nothing is touched."""
    store = site(databases, "visibility").install("1.9", "1.29.1")
    store.run("DROP INDEX by_status", NARROWED, f"CREATE INDEX mine ON {TABLE} (run_id)")
    refusal = store.refused(SCHEMA_MIGRATOR_ON_DRIFT="fail")
    assert isinstance(refusal, NotAsRehearsed)
    assert refusal.message == (
        f'2 objects of "{store.name}" differ from version 1.9: index {TABLE}.by_status, '
        f"column {TABLE}.workflow_type_name"
    )
    assert refusal.hint == (
        "for the SQL that repairs them: schema-migrator verify --visibility-target-version 1.9; or use --on-drift warn"
    )
    with capture_logs() as events:
        verdict = store.migrate().verdict
    assert verdict is not None
    assert named(verdict) == [
        f"different column {TABLE}.workflow_type_name",
        f"extra index {TABLE}.mine",
        f"missing index {TABLE}.by_status",
    ]
    drift = {one["object"] for one in events if one["event"] == "schema.drift" and one["log_level"] == "warning"}
    assert drift == {f"index {TABLE}.by_status", f"column {TABLE}.workflow_type_name"}


def test_drift_beside_a_half_applied_step(databases: Databases) -> None:
    """What the begun step does not touch is weighed as well."""
    store = site(databases, "visibility").half_install("1.2", 20)
    store.run(f"ALTER TABLE {TABLE} ALTER encoding SET DEFAULT 'x'")
    refusal = store.refused(SCHEMA_MIGRATOR_ON_DRIFT="fail")
    assert isinstance(refusal, NotAsRehearsed)
    assert refusal.message == f'1 object of "{store.name}" differs from version 1.1: column {TABLE}.encoding'


def test_drift_of_a_table_that_a_step_changes(databases: Databases) -> None:
    """Row security is neither a half-applied step nor in a step's way: it is named."""
    store = site(databases, "visibility").install("1.9")
    store.run(f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY", f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY")
    assert isinstance(store.status().state, At)
    assert isinstance(store.refused(SCHEMA_MIGRATOR_ON_DRIFT="fail"), NotAsRehearsed)
    verdict = store.migrate().verdict
    assert verdict is not None
    assert named(verdict) == [f"different table {TABLE}"]
    (note,) = repair(verdict.difference.different[0], verdict.schema)
    assert note.startswith("-- look first: without row-level security every role with a grant")
    store.run(note.rpartition(": ")[2])
    assert store.verify().equal


def test_what_an_event_trigger_makes_of_new_tables(databases: Databases) -> None:
    """A table that gets row security as it is created, as Supabase's advice has it, ends no step."""
    store = site(databases, "default").install("1.15")
    store.admin(*ENSURE_RLS)
    with capture_logs() as events:
        verdict = store.migrate().verdict
    assert verdict is not None
    tables = ["chasm_node_maps", "current_chasm_executions", "task_queues_v2", "tasks_v2"]
    assert named(verdict) == [*(f"different table {name}" for name in tables), "extra function ensure_rls()"]
    assert [event["object"] for event in events if event["event"] == "schema.drift"] == [
        f"table {one}" for one in tables
    ]

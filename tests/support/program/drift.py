"""What people change by hand in a schema of Temporal's, by what it is called."""

from collections.abc import Mapping


def _if_there(statement: str) -> str:
    """Return what runs a statement where its column or function is there."""
    caught = "EXCEPTION WHEN undefined_column OR undefined_function THEN END"
    return f"DO $do$ BEGIN {statement}; {caught} $do$"


TABLES = {"default": "current_executions", "visibility": "executions_visibility"}
OWN = "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'"
TRIGGER = "CREATE TRIGGER own BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION own()"
SAME = "SELECT 1"
VIEWED = "CREATE VIEW own AS SELECT * FROM {t}"
# By what it is called: for both stores, or for each. {t} is the store's largest table.
CHANGES: Mapping[str, tuple[str, ...] | Mapping[str, tuple[str, ...]]] = {
    "row security": ("ALTER TABLE {t} ENABLE ROW LEVEL SECURITY",),
    "row security forced": ("ALTER TABLE {t} ENABLE ROW LEVEL SECURITY", "ALTER TABLE {t} FORCE ROW LEVEL SECURITY"),
    "policy": ("CREATE POLICY own ON {t} USING (true)",),
    "unlogged": ("ALTER TABLE {t} SET UNLOGGED",),
    "owner": ("ALTER TABLE {t} OWNER TO CURRENT_USER",),
    "default added": ("ALTER TABLE {t} ALTER workflow_id SET DEFAULT 'x'",),
    "default dropped": {
        "default": ("ALTER TABLE cluster_metadata ALTER version DROP DEFAULT",),
        "visibility": ("ALTER TABLE {t} ALTER memo DROP DEFAULT",),
    },
    "not null added": {
        "default": ("ALTER TABLE cluster_metadata ALTER data SET NOT NULL",),
        "visibility": ("UPDATE {t} SET close_time = now()", "ALTER TABLE {t} ALTER close_time SET NOT NULL"),
    },
    "not null dropped": {
        "default": ("ALTER TABLE {t} ALTER create_request_id DROP NOT NULL",),
        "visibility": ("ALTER TABLE {t} ALTER workflow_type_name DROP NOT NULL",),
    },
    "longer": {
        "default": ("ALTER TABLE {t} ALTER create_request_id TYPE varchar(100)",),
        "visibility": ("ALTER TABLE {t} ALTER workflow_type_name TYPE varchar(300)",),
    },
    "another type": {
        "default": ("ALTER TABLE {t} ALTER create_request_id TYPE text",),
        "visibility": ("ALTER TABLE {t} ALTER close_time TYPE timestamptz",),
    },
    "another type of a text": {
        "default": ("ALTER TABLE cluster_membership ALTER rpc_address TYPE text",),
        "visibility": ("ALTER TABLE {t} ALTER run_id TYPE text",),
    },
    "storage": {
        "default": ("ALTER TABLE {t} ALTER create_request_id SET STORAGE EXTERNAL",),
        "visibility": ("ALTER TABLE {t} ALTER memo SET STORAGE EXTERNAL",),
    },
    "statistics target": ("ALTER TABLE {t} ALTER run_id SET STATISTICS 500",),
    "statistics": ("CREATE STATISTICS own ON workflow_id, namespace_id FROM {t}",),
    "column dropped": {
        "default": ("ALTER TABLE executions DROP next_event_id",),
        "visibility": ("ALTER TABLE {t} DROP encoding",),
    },
    "column that goes dropped": {
        "default": ("ALTER TABLE cluster_metadata DROP COLUMN IF EXISTS immutable_data_encoding",),
        "visibility": ("ALTER TABLE {t} DROP COLUMN IF EXISTS root_run_id",),
    },
    "default of a column that goes": {
        "default": (_if_there("ALTER TABLE cluster_metadata ALTER immutable_data SET DEFAULT 'x'"),),
        "visibility": (_if_there("ALTER TABLE executions_visibility ALTER root_run_id SET DEFAULT 'x'"),),
    },
    "extra column": ("ALTER TABLE {t} ADD own int",),
    "column of a later version": {
        "default": ("ALTER TABLE {t} ADD IF NOT EXISTS start_time timestamp",),
        "visibility": ("ALTER TABLE {t} ADD IF NOT EXISTS temporalbool01 boolean",),
    },
    "extra index": ("CREATE INDEX own ON {t} (run_id)",),
    "extra unique index": ("CREATE UNIQUE INDEX own ON {t} (run_id)",),
    "index dropped": {
        "default": ("DROP INDEX cm_idx_rolehost",),
        "visibility": ("DROP INDEX IF EXISTS by_execution_time, by_type_close_time",),
    },
    "index renamed": {
        "default": ("ALTER INDEX cm_idx_rolehost RENAME TO own",),
        "visibility": (
            "ALTER INDEX IF EXISTS by_execution_time RENAME TO own",
            "ALTER INDEX IF EXISTS by_workflow_id_close_time RENAME TO own",
        ),
    },
    "primary key renamed": ("ALTER INDEX {t}_pkey RENAME TO own",),
    "index that goes dropped": {
        "default": (SAME,),
        "visibility": ("DROP INDEX IF EXISTS by_root_run_id",),
    },
    "index made partial": {
        "default": (
            "DROP INDEX cm_idx_rolehost",
            "CREATE INDEX cm_idx_rolehost ON cluster_membership (role) WHERE role > 0",
        ),
        "visibility": (
            "DROP INDEX IF EXISTS by_type_close_time, by_status",
            "CREATE INDEX by_type_close_time ON {t} (close_time) WHERE status > 1",
        ),
    },
    "index on a column that goes": {
        "default": (SAME,),
        "visibility": (
            "DROP INDEX IF EXISTS by_execution_time",
            _if_there("CREATE INDEX by_execution_time ON executions_visibility (execution_time, root_run_id)"),
        ),
    },
    "constraint dropped": ("ALTER TABLE {t} DROP CONSTRAINT {t}_pkey",),
    "interrupted restore": (
        (
            "DO $$ DECLARE name text; BEGIN FOR name IN SELECT indexname FROM pg_indexes"
            " WHERE tablename = '{t}' AND indexname <> '{t}_pkey' LOOP EXECUTE 'DROP INDEX ' || name; END LOOP; END $$"
        ),
        "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey",
    ),
    "key turned round": {
        "default": (
            "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey",
            "ALTER TABLE {t} ADD CONSTRAINT {t}_pkey PRIMARY KEY (workflow_id, shard_id, namespace_id)",
        ),
        "visibility": (
            "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey",
            "ALTER TABLE {t} ADD CONSTRAINT {t}_pkey PRIMARY KEY (run_id, namespace_id)",
        ),
    },
    "key of other columns": {
        "default": (
            "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey",
            "ALTER TABLE {t} ADD CONSTRAINT {t}_pkey PRIMARY KEY (namespace_id, workflow_id)",
        ),
        "visibility": (
            "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey",
            "ALTER TABLE {t} ADD CONSTRAINT {t}_pkey PRIMARY KEY (run_id)",
        ),
    },
    "check": ("ALTER TABLE {t} ADD CONSTRAINT own CHECK (workflow_id <> 'x')",),
    "foreign key": (
        "CREATE TABLE own AS SELECT * FROM {t}",
        "ALTER TABLE {t} ADD UNIQUE (run_id)",
        "ALTER TABLE own ADD FOREIGN KEY (run_id) REFERENCES {t} (run_id)",
    ),
    "trigger": (OWN, TRIGGER),
    "trigger of a column": (
        OWN,
        "CREATE TRIGGER own BEFORE UPDATE OF workflow_id ON {t} FOR EACH ROW EXECUTE FUNCTION own()",
    ),
    "trigger disabled": (OWN, TRIGGER, "ALTER TABLE {t} DISABLE TRIGGER own"),
    "comment": ("COMMENT ON TABLE {t} IS 'own'", "COMMENT ON COLUMN {t}.run_id IS 'own'"),
    "grant": ("GRANT SELECT ON {t} TO public",),
    "table option": ("ALTER TABLE {t} SET (fillfactor = 70, autovacuum_enabled = off)",),
    "replica identity": ("ALTER TABLE {t} REPLICA IDENTITY FULL",),
    "function replaced": {
        "default": (SAME,),
        "visibility": (
            (
                "CREATE OR REPLACE FUNCTION convert_ts(s varchar) RETURNS timestamp LANGUAGE sql"
                " AS 'SELECT localtimestamp'"
            ),
        ),
    },
    "function with a search_path": {
        "default": (SAME,),
        "visibility": (_if_there("ALTER FUNCTION convert_ts SET search_path = ''"),),
    },
    "extra function": ("CREATE FUNCTION own(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",),
    "function of the same name": {
        "default": (SAME,),
        "visibility": ("CREATE FUNCTION convert_ts(a text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT a'",),
    },
    "sequence": ("CREATE SEQUENCE own OWNED BY {t}.run_id",),
    "view": (VIEWED,),
    "materialized view": ("CREATE MATERIALIZED VIEW own AS SELECT * FROM {t}",),
    "generated column": {
        "default": ("ALTER TABLE {t} ADD own int GENERATED ALWAYS AS (length(create_request_id)) STORED",),
        "visibility": ("ALTER TABLE {t} ADD own int GENERATED ALWAYS AS (length(workflow_id)) STORED",),
    },
    "publication": ("CREATE PUBLICATION own_{t} FOR TABLE {t}",),
    "extra table": ("CREATE TABLE own (a int PRIMARY KEY, b int UNIQUE)",),
    "child": ("CREATE TABLE own () INHERITS ({t})",),
    "table of another program": {
        "default": ("CREATE TABLE tasks_v2 (id int PRIMARY KEY, title text)",),
        "visibility": ("CREATE TABLE tasks (id int PRIMARY KEY, title text)",),
    },
    "view of a coming name": {
        "default": ("CREATE VIEW current_chasm_executions AS SELECT 1 AS a",),
        "visibility": ("CREATE VIEW by_temporal_external_payload_count AS SELECT 1 AS a",),
    },
    "type of a coming name": {
        "default": ("CREATE TYPE current_chasm_executions AS ENUM ('a')",),
        "visibility": (SAME,),
    },
    "index of a coming name": {
        "default": ("CREATE TABLE own (a int)", "CREATE INDEX chasm_node_maps ON own (a)"),
        "visibility": ("CREATE TABLE own (a int)", "CREATE INDEX by_used_deployment_versions ON own (a)"),
    },
    "table dropped": {"default": ("DROP TABLE signals_requested_sets",), "visibility": ("DROP TABLE {t}",)},
    "partitioned": {
        "default": (
            "ALTER TABLE {t} RENAME TO own",
            "CREATE TABLE {t} (LIKE own INCLUDING ALL) PARTITION BY HASH (shard_id)",
        ),
        "visibility": (
            "ALTER TABLE {t} RENAME TO own",
            "CREATE TABLE {t} (LIKE own INCLUDING ALL) PARTITION BY HASH (namespace_id)",
        ),
    },
    "order of columns": ("ALTER TABLE {t} DROP IF EXISTS state_transition_count, ADD state_transition_count bigint",),
    "extension dropped": {"default": (SAME,), "visibility": ("DROP EXTENSION IF EXISTS btree_gin CASCADE",)},
    "identity": {
        "default": (
            "ALTER TABLE {t} ALTER start_version DROP DEFAULT",
            "ALTER TABLE {t} ALTER start_version ADD GENERATED BY DEFAULT AS IDENTITY",
        ),
        "visibility": (SAME,),
    },
}


def change(name: str, store: str) -> list[str]:
    """Return the statements of a change for a store."""
    found = CHANGES[name]
    those = found if isinstance(found, tuple) else found[store]
    return [one.format(t=TABLES[store]) if "{t}" in one else one for one in those]

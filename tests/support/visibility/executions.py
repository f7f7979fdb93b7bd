"""Rows of executions_visibility as Temporal's server writes them, whatever the table's version, and its statements."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from psycopg.types.json import Jsonb

from support.postgres.engine import Connection

Key: TypeAlias = tuple[str, str]
"""Namespace and run."""
Row: TypeAlias = tuple[Any, ...]
"""A row's values, those of the key first."""

TABLE = "executions_visibility"
ATTRIBUTES = """jsonb_strip_nulls(jsonb_build_object(
  'BuildIds', CASE WHEN d1 % 2 = 0 THEN jsonb_build_array('unversioned', 'build-' || d2 % 40) END,
  'TemporalChangeVersion', CASE WHEN d1 % 5 = 0 THEN jsonb_build_array('change-' || d3 % 9) END,
  'BinaryChecksums', CASE WHEN d1 % 11 = 0 THEN jsonb_build_array(left(h, 12)) END,
  'TemporalScheduledById', CASE WHEN d1 % 7 = 0 THEN 'schedule-' || d4 % 30 END,
  'TemporalScheduledStartTime', CASE WHEN d1 % 7 = 0 THEN to_char(started, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') END,
  'TemporalSchedulePaused', CASE WHEN d1 % 13 = 0 THEN d2 % 2 = 0 END,
  'TemporalPauseInfo', CASE WHEN d1 % 17 = 0 THEN jsonb_build_array('Activity:' || d2 % 20) END,
  'TemporalWorkerDeployment', CASE WHEN d1 % 3 = 0 THEN 'deployment-' || d3 % 6 END,
  'TemporalReportedProblems', CASE WHEN d1 % 19 = 0 THEN jsonb_build_array('category=WorkflowTaskFailed') END,
  'TemporalUsedWorkerDeploymentVersions', CASE WHEN d1 % 23 = 0 THEN jsonb_build_array('d:' || d4 % 5) END,
  'TemporalExternalPayloadSizeBytes', CASE WHEN d1 % 29 = 0 THEN d3 * 1000 END,
  'TemporalExternalPayloadCount', CASE WHEN d1 % 29 = 0 THEN d3 % 9 END,
  'Bool01', CASE WHEN d2 % 3 = 0 THEN d3 % 2 = 0 END,
  'Int01', CASE WHEN d2 % 2 = 0 THEN d3 * d4 END,
  'Double01', CASE WHEN d2 % 4 = 0 THEN d3 / 8.0 END,
  'Datetime01', CASE WHEN d2 % 5 = 0 THEN to_char(started, 'YYYY-MM-DD"T"HH24:MI:SS.US"+02:00"') END,
  'Keyword01', 'customer-' || d4,
  'Keyword02', CASE WHEN d3 % 2 = 0 THEN 'region ' || d4 % 5 || ' é' END,
  'KeywordList01', CASE WHEN d3 % 3 = 0 THEN jsonb_build_array('tag-' || d1 % 50, 'tag-' || d2 % 50) END,
  'Text01', CASE WHEN d3 % 4 = 0 THEN 'order ' || d1 || ' of customer ' || d4 || ' was paid' END))"""
VALUES = {
    "namespace_id": "md5('namespace ' || least(d1 % 8, 4))::uuid::text",
    "run_id": "md5('run ' || h)::uuid::text",
    "workflow_type_name": "'workflow-type-' || d2 % 20",
    "workflow_id": "'workflow-' || n || '-' || left(h, 8)",
    "start_time": "started",
    "execution_time": "started + d2 % 3 * interval '10 s'",
    "status": "status",
    "close_time": "closed",
    "history_length": "CASE WHEN closed IS NOT NULL THEN 3 + d3 % 200 END",
    "history_size_bytes": "CASE WHEN closed IS NOT NULL THEN 900 + d3 * 17 END",
    "execution_duration": "(extract(epoch FROM closed - started) * 1000000000)::bigint",
    "state_transition_count": "CASE WHEN closed IS NOT NULL THEN 2 + d3 % 90 END",
    # One in so many is stored out of line.
    "memo": "CASE WHEN d4 % 128 = 0 THEN (SELECT convert_to(string_agg(md5(h || i), ''), 'UTF8')"
    " FROM generate_series(1, 160) i) WHEN d4 % 2 = 0 THEN decode(h, 'hex') END",
    "encoding": "CASE WHEN d4 % 2 = 0 THEN 'Proto3' ELSE '' END",
    "task_queue": "'queue-' || d1 % 12",
    "search_attributes": f"CASE WHEN d1 % 31 > 0 THEN {ATTRIBUTES} END",
    "parent_workflow_id": "CASE WHEN d2 % 6 = 0 THEN 'workflow-' || d3 END",
    "parent_run_id": "CASE WHEN d2 % 6 = 0 THEN md5('parent ' || d3)::uuid::text END",
    "root_workflow_id": "'workflow-' || d3",
    "root_run_id": "md5('root ' || d3)::uuid::text",
    "_version": "1 + d3 % 5",
}
"""The columns that the server writes, in its order, each with the value of row `n`."""
ROWS = """
FROM (
  SELECT *, CASE WHEN status > 1 THEN started + d4 * interval '1.000013 s' END AS closed FROM (
    SELECT *, timestamp '2025-10-01' + (d1 * 4096 + d2) * interval '0.150001 s' AS started,
      (ARRAY[1, 3, 3, 4, 5, 6, 7, 2])[least(d3 % 24, 7) + 1] AS status
    FROM (
      SELECT n, h, ('x' || substr(h, 1, 3))::bit(12)::int AS d1, ('x' || substr(h, 4, 3))::bit(12)::int AS d2,
        ('x' || substr(h, 7, 3))::bit(12)::int AS d3, ('x' || substr(h, 10, 3))::bit(12)::int AS d4
      FROM (SELECT n, md5({seed} || ':' || n) AS h FROM generate_series(1, {rows}) n) hashed
    ) drawn
  ) dated
) rows"""
WRITTEN = """
SELECT attname FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
LISTED = """
SELECT {columns} FROM executions_visibility WHERE namespace_id = %s AND status = %s
ORDER BY coalesce(close_time, '9999-12-31 23:59:59') DESC, start_time DESC, run_id LIMIT {page}
"""
PAGE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """What the server sends, with the columns that its table has; parameters are rows, keys, or what `listed` says.

    `start` leaves a row alone that is there, `upsert` replaces it (where there are versions, by a higher one),
    `rekey` gives the row of the second key the first. `listed` takes a namespace and a status.
    """

    columns: tuple[str, ...]
    start: str
    upsert: str
    delete: str
    rekey: str
    read: str
    listed: str
    every: str


def statements(connection: Connection) -> Statements:
    """Return the statements for the table as it is now."""
    columns = written(connection)
    names = ", ".join(columns)
    insert = f"INSERT INTO {TABLE} ({names}) VALUES ({', '.join(['%s'] * len(columns))})"
    replaced = ", ".join(f"{name} = excluded.{name}" for name in columns)
    newer = f" WHERE {TABLE}._version < excluded._version" if "_version" in columns else ""
    key = "WHERE namespace_id = %s AND run_id = %s"
    return Statements(
        columns=columns,
        start=f"{insert} ON CONFLICT (namespace_id, run_id) DO NOTHING",
        upsert=f"{insert} ON CONFLICT (namespace_id, run_id) DO UPDATE SET {replaced}{newer}",
        delete=f"DELETE FROM {TABLE} {key}",
        rekey=f"UPDATE {TABLE} SET namespace_id = %s, run_id = %s {key}",
        read=f"SELECT {names} FROM {TABLE} {key}",
        listed=LISTED.format(columns=names, page=PAGE),
        every=f"SELECT {names} FROM {TABLE}",
    )


def written(connection: Connection) -> tuple[str, ...]:
    """Return the columns of the table that the server writes, the key's first."""
    found = {name for (name,) in connection.execute(WRITTEN, [TABLE]).fetchall()}
    return tuple(name for name in VALUES if name in found)


def as_read(row: Row) -> Row:
    """Return a row from the server with its key without the blanks that the type adds."""
    return (row[0].rstrip(), row[1].rstrip(), *row[2:])


def as_sent(row: Row) -> list[Any]:
    """Return a row as psycopg takes it."""
    return [Jsonb(value) if isinstance(value, dict) else value for value in row]


def fill(connection: Connection, rows: int, seed: int = 0) -> None:
    """Insert rows, the same ones for the same seed; their owner's connection.

    The indexes are built afterwards, which takes a fraction of the time; at the end the table is vacuumed.
    """
    names = written(connection)
    with connection.transaction():
        indexes = connection.execute(INDEXES, [TABLE]).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}".encode())
        values = ", ".join(VALUES[name] for name in names)
        source = ROWS.format(rows=rows, seed=seed)
        connection.execute(f"INSERT INTO {TABLE} ({', '.join(names)}) SELECT {values} {source}".encode())
        for _, definition in indexes:
            connection.execute(definition.encode())
    connection.execute(f"VACUUM (FREEZE, ANALYZE) {TABLE}".encode())

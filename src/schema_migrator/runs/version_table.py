"""The version row and the history, written exactly as the vendor's tool writes them.

There is no table of our own. Source: go.temporal.io/server, common/persistence/sql/sqlplugin/postgresql/admin.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql

from schema_migrator.errors import VersionMoved
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from packaging.version import Version
    from psycopg import Cursor

    from schema_migrator.postgres.transactions import Batch
    from schema_migrator.releases.source import Step, Store
    from schema_migrator.runs.expected import Expected

_SETUP = (
    """CREATE TABLE IF NOT EXISTS {versions} (
      version_partition int NOT NULL, db_name varchar(255) NOT NULL, creation_time timestamp,
      curr_version varchar(64), min_compatible_version varchar(64),
      PRIMARY KEY (version_partition, db_name))""",
    """CREATE TABLE IF NOT EXISTS {history} (
      version_partition int NOT NULL, year int NOT NULL, month int NOT NULL, update_time timestamp NOT NULL,
      description varchar(255), manifest_md5 varchar(64), new_version varchar(64), old_version varchar(64),
      PRIMARY KEY (version_partition, year, month, update_time))""",
)
_FIRST_VERSION = """
INSERT INTO {versions} AS recorded (version_partition, db_name, creation_time, curr_version, min_compatible_version)
VALUES (0, %s, clock_timestamp() AT TIME ZONE 'UTC', '0.0', '0.0')
"""
_FIRST_HISTORY = """
INSERT INTO {history}
  (version_partition, year, month, update_time, old_version, new_version, manifest_md5, description)
SELECT 0, extract(year FROM now)::int, extract(month FROM now)::int, now, '0', '0.0', '', 'initial version'
FROM (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now) t
"""
# Compare and set: if the version is no longer the old one, neither row is written.
_MOVE = """
WITH moved AS (
  UPDATE {versions}
  SET creation_time = clock_timestamp() AT TIME ZONE 'UTC', curr_version = %s, min_compatible_version = %s
  WHERE version_partition = 0 AND db_name = %s AND curr_version = %s
  RETURNING creation_time AS now)
INSERT INTO {history}
  (version_partition, year, month, update_time, old_version, new_version, manifest_md5, description)
SELECT 0, extract(year FROM now)::int, extract(month FROM now)::int, now, %s, %s, %s, %s FROM moved
"""
_ADOPT = """
WITH row AS (
  INSERT INTO {versions} AS recorded (version_partition, db_name, creation_time, curr_version, min_compatible_version)
  VALUES (0, %s, clock_timestamp() AT TIME ZONE 'UTC', %s, %s)
  ON CONFLICT (version_partition, db_name) DO UPDATE
  SET creation_time = excluded.creation_time, curr_version = excluded.curr_version,
    min_compatible_version = excluded.min_compatible_version
  WHERE recorded.curr_version = %s
  RETURNING creation_time AS now)
INSERT INTO {history}
  (version_partition, year, month, update_time, old_version, new_version, manifest_md5, description)
SELECT 0, extract(year FROM now)::int, extract(month FROM now)::int, now, %s, %s, %s, %s FROM row
"""
_RECORDED = "SELECT curr_version FROM {versions} WHERE version_partition = 0 AND db_name = %s"


def set_up(sent: Batch, database: str) -> None:
    """Create the version tables and write version 0.0 with its history row."""
    _make_tables(sent)
    sent.send(_of(sent, _FIRST_VERSION), [database])
    sent.send(_of(sent, _FIRST_HISTORY))


def move(sent: Batch, database: str, step: Step, previous: Version) -> None:
    """Move the version by compare-and-set, and add the step to the history."""
    old, new = str(previous), str(step.version)
    sent.send(_of(sent, _MOVE), [new, str(step.min_compatible), database, old, old, new, step.md5, step.description])


def adopt(sent: Batch, expected: Expected, step: Step) -> None:
    """Record the version that the tables match under the configured database name; no other version row changes."""
    _make_tables(sent)
    old, new = str(expected.recorded or UNVERSIONED), str(step.version)
    row = [expected.database, new, str(step.min_compatible), old]
    sent.send(_of(sent, _ADOPT), [*row, old, new, "", "adopted: the tables match this version"])


def ask(sent: Batch, database: str) -> Cursor[Any]:
    """Query the version that is recorded now; the cursor has one row, or none."""
    return sent.send(_of(sent, _RECORDED), [database])


def assert_reached(answer: Cursor[Any], expected: Expected, store: Store) -> None:
    """Raise VersionMoved unless the answer is the version that the transaction should reach."""
    row = answer.fetchone()
    if row is None or row[0] != str(expected.reached):
        raise VersionMoved(
            f'the version of "{expected.database}" ends as {row and row[0]}, expected {expected.reached}',
            hint="something else writes schema_version: find out what, then run this again",
            store=store,
        )


def _make_tables(sent: Batch) -> None:
    for statement in _SETUP:
        sent.send(_of(sent, statement))


def _of(sent: Batch, statement: LiteralString) -> sql.Composed:
    """Return a statement with the names of the version tables in the schema that is migrated."""
    names = {"versions": "schema_version", "history": "schema_update_history"}
    return sql.SQL(statement).format(**{key: sql.Identifier(sent.schema, name) for key, name in names.items()})

"""Reads the seed row, the only row that a step inserts (`namespace_metadata`, default store, 1.0), and signs of use.

Once the row exists, every retry of the vendor's tool fails on a duplicate key. This program never deletes it. A row
equal to the vendor's counts as inserted; if it differs, a cluster has increased its version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from schema_migrator.catalog import plain_rows
from schema_migrator.catalog.snapshot import Key

if TYPE_CHECKING:
    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.postgres.connection import Connection

PARTITION = 54321
VERSION = 1
_HERE = f"SELECT FROM namespace_metadata WHERE partition_id = {PARTITION}"
REPAIR = (
    "INSERT INTO namespace_metadata (partition_id, notification_version)"
    f" SELECT {PARTITION}, {VERSION} WHERE NOT EXISTS ({_HERE});"
)
KEY = Key("row", "namespace_metadata", f"partition_id {PARTITION}")

_CLUSTERS = ("namespaces", "executions_visibility")
"""Tables that only a running cluster writes to."""


def inserted_by(statement: str) -> bool:
    """Whether a statement inserts the seed row."""
    return re.match(r"INSERT\s+INTO\s+namespace_metadata\b", statement, re.IGNORECASE) is not None and bool(
        re.search(rf"\b{PARTITION}\b", statement)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """The seed row's notification_version, or None without the row. `filled` is a table with rows of a cluster."""

    version: int | None
    filled: str | None = None

    @property
    def used(self) -> str | None:
        """The sign that a cluster has used the store, in words; None if there is none."""
        if self.version not in (None, VERSION):
            return f"the seed row of namespace_metadata is at notification_version {self.version}, expected {VERSION}"
        return f"{self.filled} has rows" if self.filled else None


def read(conn: Connection, schema: str, live: Snapshot, *, installing: bool) -> Seed:
    """Read the seed row. If `installing`, also look for a cluster's rows in the tables that already exist."""
    filled = (table for table in _CLUSTERS if installing and table in live.tables and _has_rows(conn, schema, table))
    columns = ("partition_id", "notification_version")
    there = "namespace_metadata" in live.tables
    rows = plain_rows.read(conn, schema, "namespace_metadata", columns) if there else []
    version = next((version for partition, version in rows if partition == PARTITION), None)
    return Seed(version=version, filled=next(filled, None))


def _has_rows(conn: Connection, schema: str, table: str) -> bool:
    row = conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, table))).fetchone()
    return bool(row and row[0])

"""Which of Temporal's servers are alive, from the heartbeats in the default store's cluster_membership."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema_migrator.postgres.connection import Connection

TABLE = "cluster_membership"
_ROLES = {1: "frontend", 2: "history", 3: "matching", 4: "worker", 5: "internal-frontend"}
"""The roles by number (source: ServiceType in the server's common/persistence/data_interfaces.go)."""
# A server writes a heartbeat about every 10 seconds, in UTC, and counts as alive for 20 (source: ringpop/monitor.go).
_ALIVE = sql.SQL(
    "SELECT role, count(DISTINCT host_id) FROM {}"
    " WHERE last_heartbeat > (pg_catalog.now() AT TIME ZONE 'UTC') - interval '20 seconds' GROUP BY role ORDER BY role"
)


def alive(conn: Connection, schema: str) -> Mapping[str, int] | None:
    """Return the number of living servers by role; None if the table cannot be read now.

    `conn` must be in autocommit mode, outside of a transaction.
    """
    try:
        with transactions.look(conn):
            rows = conn.execute(_ALIVE.format(sql.Identifier(schema, TABLE))).fetchall()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable, psycopg.OperationalError):
        if conn.closed:
            raise
        return None
    return {_ROLES.get(role, f"role {role}"): count for role, count in rows}

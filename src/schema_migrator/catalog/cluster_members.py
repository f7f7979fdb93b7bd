"""Which of Temporal's servers are alive, from the heartbeats in the default store's cluster_membership."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg

from schema_migrator.catalog import plain_rows
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema_migrator.postgres.connection import Connection

TABLE = "cluster_membership"
_ROLES = {1: "frontend", 2: "history", 3: "matching", 4: "worker", 5: "internal-frontend"}
"""The roles by number (source: ServiceType in the server's common/persistence/data_interfaces.go)."""
_ALIVE = timedelta(seconds=20)
"""How long a server counts as alive after a heartbeat, which it writes in UTC (source: ringpop/monitor.go)."""
_NOW = "SELECT pg_catalog.now() AT TIME ZONE 'UTC'"


def alive(conn: Connection, schema: str) -> Mapping[str, int] | None:
    """Return the number of living servers by role; None if the table cannot be read now.

    `conn` must be in autocommit mode, outside of a transaction.
    """
    try:
        with transactions.look(conn):
            ((now,),) = conn.execute(_NOW).fetchall()
            rows = plain_rows.read_if_table(conn, schema, TABLE, ("role", "last_heartbeat")) or []
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable, psycopg.OperationalError):
        if conn.closed:
            raise
        return None
    living = Counter(
        role for role, seen in rows if isinstance(role, int) and isinstance(seen, datetime) and seen > now - _ALIVE
    )
    return {_ROLES.get(role, f"role {role}"): living[role] for role in sorted(living)}

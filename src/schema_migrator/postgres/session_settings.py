"""The settings that each of our transactions and sessions sets first, whatever the role or the server has set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator.postgres.conninfo import ALIVE

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

# Our statements must find only what PostgreSQL itself defines (CVE-2018-1058). In any other schema of the path, an
# operator or function with exactly matching argument types would be preferred to the intended one.
OUR_PATH = "pg_catalog, pg_temp"
FIRST: tuple[LiteralString, ...] = (
    "SET LOCAL search_path = pg_catalog, pg_temp",
    "SET LOCAL jit = off",
    "SET LOCAL statement_timeout = '60s'",
)
"""Statements that must precede the query that sets the rest: compiling it could outlast a role's own timeout."""
# A client that vanished silently loses its locks within a minute. These settings do that in a pipeline too, where a
# transaction does not count as idle.
_ALIVE = {f"tcp_{name.removeprefix('tcp_')}": str(value) for name, value in ALIVE.items()}
SETTINGS = {
    "idle_session_timeout": "0",  # PostgreSQL 14: a connection may wait while others work
    "idle_in_transaction_session_timeout": "60s",  # releases the locks of a lost client
    "client_connection_check_interval": "5s",  # PostgreSQL 14: ends the statement of a lost client
    "transaction_timeout": "0",  # PostgreSQL 17
    **_ALIVE,
    "jit": "off",  # a catalog query takes milliseconds, and compiling it takes seconds
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "auto",
    "constraint_exclusion": "partition",
    "from_collapse_limit": "8",
    "join_collapse_limit": "8",
    "cursor_tuple_fraction": "0.1",
    "row_security": "off",  # rows that a policy hides cause an error instead of an incomplete answer
    "restrict_nonsystem_relation_kind": "",  # a rehearsal reads a view of its own
    "default_tablespace": "",
    "default_table_access_method": "heap",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "bytea_output": "hex",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "gin_fuzzy_search_limit": "0",
}
"""Settings that would change what our statements do or cost if a role, a database or the server had set them.

In addition, every planner switch (enable_...) is reset to PostgreSQL's own default.
"""
ROLES_OWN = ("default_tablespace", "default_table_access_method")  # decide where the vendor's statements create tables
_MOST_MS = 2**31 - 1
_SET: LiteralString = r"""
SELECT set_config(s.name, coalesce(v.value, s.boot_val),
  {local} AND NOT (s.name = 'idle_session_timeout' AND pg_backend_pid() = {own}))
FROM pg_settings s LEFT JOIN unnest({names}::text[], {values}::text[]) AS v(name, value) ON s.name = v.name
WHERE v.name IS NOT NULL OR s.name LIKE 'enable\_%'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Timeouts of a transaction in seconds; 0 means none.

    `commit` limits the wait for a synchronous standby after the commit; with 0, nothing waits for one.
    """

    table_lock: float
    statement: float
    commit: float = 0


LOOK = Limits(table_lock=1, statement=60)
"""The limits for a look at a database."""


def milliseconds(seconds: float) -> str:
    """Return a timeout in PostgreSQL's format. 0 means none, so any other timeout is at least 1 ms."""
    return f"{min(max(1, round(min(seconds, _MOST_MS) * 1000)), _MOST_MS) if seconds else 0}ms"


def settings(conn: Connection, limits: Limits, name: str, *, local: bool = True) -> sql.Composed:
    """Return the query that sets everything; the statements in FIRST must run before it.

    `idle_session_timeout` applies between transactions, so the query sets it for the session even if `local`. Behind a
    pooler it does not, because the pooler would hand the session to its next client.
    """
    values = SETTINGS | {
        "lock_timeout": milliseconds(limits.table_lock),
        "statement_timeout": milliseconds(limits.statement),
        "application_name": name,
    }
    return sql.SQL(_SET).format(
        names=sql.Literal(list(values)),
        values=sql.Literal(list(values.values())),
        local=sql.Literal(local),
        own=sql.Literal(conn.info.backend_pid),
    )

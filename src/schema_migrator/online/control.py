"""The control row of an online rewrite: what the run is doing, and what people ask of it from other sessions.

It is the only row of a table in the rewrite's own schema. The run writes its phase, the command `rewrite` and other
runs write requests, and the run reads them once a second. What is asked holds for one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import errors, sql

from schema_migrator.catalog import plain_rows
from schema_migrator.catalog.leftovers import CONTROL
from schema_migrator.errors import PreflightFailed
from schema_migrator.postgres import session_settings, transactions
from schema_migrator.postgres.conninfo import APPLICATION
from schema_migrator.runs import advisory_lock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from schema_migrator.postgres.connection import Connection

HOLDING = "waiting for the cutover"
"""The phase in which everything but the cutover is done, and changes are replayed until somebody asks for it."""
_SECONDS = 10
_COLUMNS = ("phase", "phase_since", "begun_at", "runner", "swap", "paused", "jobs")
_TABLE: LiteralString = """
CREATE TABLE IF NOT EXISTS {} (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  phase text NOT NULL,
  phase_since timestamptz NOT NULL,
  begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  runner integer NOT NULL,
  swap boolean NOT NULL,
  paused boolean NOT NULL,
  jobs integer
)
"""
_TAKE: LiteralString = """
INSERT INTO {} (one, phase, phase_since, runner, swap, paused)
VALUES (true, 'start', clock_timestamp(), %s, false, false)
ON CONFLICT (one) DO UPDATE SET phase = 'start', phase_since = clock_timestamp(), runner = excluded.runner,
  swap = false, paused = false, jobs = NULL
"""
_UPDATE: LiteralString = "UPDATE {} SET {} WHERE runner = {} RETURNING 1"
# Whoever owns one of our objects can make it run code: triggers of the tables, the function of the trigger.
_OWNERS = """
SELECT DISTINCT pg_catalog.pg_get_userbyid(o.owner)::text, m.rolname::text
FROM pg_catalog.pg_roles m, pg_catalog.pg_namespace n CROSS JOIN LATERAL (
  SELECT n.nspowner AS owner
  UNION SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid
  UNION SELECT p.proowner FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid
) o
WHERE m.rolname = current_user AND m.rolsuper AND n.nspname = %s
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = o.owner AND r.rolsuper)
ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a rewrite is doing and what was asked of it.

    `runner`: the pid of the backend that holds the run's advisory lock. `swap`: cut over as soon as everything else is
    done. `paused`: do nothing until further notice. `jobs`: the most connections that may work, None if nobody has said
    so.
    """

    phase: str
    phase_since: datetime
    begun_at: datetime
    runner: int
    swap: bool
    paused: bool
    jobs: int | None


def build(conn: Connection, ours: str) -> None:
    """Create the table; in an open transaction."""
    conn.execute(sql.SQL(_TABLE).format(sql.Identifier(ours, CONTROL)))


def take(conn: Connection, ours: str, runner: int) -> None:
    """Make the row that of our run, and forget what was asked of an earlier one; in an open transaction."""
    conn.execute(sql.SQL(_TAKE).format(sql.Identifier(ours, CONTROL)), [runner])


def read(conn: Connection, ours: str) -> Control | None:
    """Return the control row of a rewrite in our schema, None if it has none; in an open transaction."""
    rows = plain_rows.read_if_table(conn, ours, CONTROL, _COLUMNS)
    return Control(**dict(zip(_COLUMNS, rows[0], strict=True))) if rows else None


def enter(conn: Connection, ours: str, runner: int, phase: str) -> None:
    """Record the phase that a run has entered; in an open transaction."""
    changes = sql.SQL("phase = {}, phase_since = clock_timestamp()").format(sql.Literal(phase))
    conn.execute(sql.SQL(_UPDATE).format(sql.Identifier(ours, CONTROL), changes, sql.Literal(runner)))


def ask(conn: Connection, ours: str, wanted: Mapping[str, object]) -> bool:
    """Write a request into the control row, in a transaction of its own; return whether a run will read it.

    None will if the run that holds the advisory lock is not the one that the row belongs to, or if the rewrite is gone.
    Raises PreflightFailed: see assert_harmless.
    """
    changes = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in wanted.items()
    )
    query = sql.SQL(_UPDATE).format(sql.Identifier(ours, CONTROL), changes, sql.SQL(advisory_lock.HOLDER))
    limits = session_settings.Limits(table_lock=_SECONDS, statement=_SECONDS)
    try:
        with transactions.transaction(conn, None, limits, name=APPLICATION):
            assert_harmless(conn, ours)
            return conn.execute(query).fetchone() is not None
    except errors.UndefinedTable:
        return False


def assert_harmless(conn: Connection, ours: str) -> None:
    """Raise PreflightFailed if we are a superuser and a role that is none owns something in our schema.

    Statements on its tables would run that role's triggers with our rights.
    """
    found = conn.execute(_OWNERS, [ours]).fetchall()
    if found:
        owners, role = ", ".join(f'"{owner}"' for owner, _ in found), found[0][1]
        raise PreflightFailed(
            f'the online rewrite in "{ours}" belongs to {owners}, whose triggers would run as the superuser "{role}"',
            hint=f"run this as {owners}; or remove the rewrite: schema-migrator migrate --abandon",
        )

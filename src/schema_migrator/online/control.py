"""The control row of an online rewrite: what the run is doing, and what people ask of it from other sessions.

It is the only row of a table in the rewrite's own schema. The run writes its phase, the command `rewrite` and other
runs write requests, and the run reads them once a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator.catalog import plain_rows
from schema_migrator.catalog.leftovers import CONTROL
from schema_migrator.errors import PreflightFailed
from schema_migrator.postgres import session_settings, transactions
from schema_migrator.postgres.conninfo import APPLICATION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from schema_migrator.postgres.connection import Connection

HOLDING = "waiting for the cutover"
"""The phase in which everything but the cutover is done, and changes are replayed until somebody asks for it."""
_SECONDS = 10
_COLUMNS = ("phase", "phase_since", "begun_at", "swap", "paused", "jobs")
_TABLE: LiteralString = """
CREATE TABLE IF NOT EXISTS {} (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  phase text NOT NULL DEFAULT 'start',
  phase_since timestamptz NOT NULL DEFAULT clock_timestamp(),
  begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  swap boolean NOT NULL DEFAULT false,
  paused boolean NOT NULL DEFAULT false,
  jobs integer
)
"""
_ROW: LiteralString = """
INSERT INTO {} (one) VALUES (true) ON CONFLICT (one) DO UPDATE SET swap = false, paused = false, jobs = NULL
"""
_OWNER = """
SELECT pg_catalog.pg_get_userbyid(c.relowner)::text, r.rolname::text, c.relowner = r.oid FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles r ON r.rolname = current_user
WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a rewrite is doing and what was asked of it.

    `swap`: cut over as soon as everything else is done. `paused`: do nothing until further notice. `jobs`: the most
    connections that may work, None if nobody has said so.
    """

    phase: str
    phase_since: datetime
    begun_at: datetime
    swap: bool
    paused: bool
    jobs: int | None

    @property
    def holding(self) -> bool:
        """Whether the rewrite waits for somebody to ask for the cutover."""
        return self.phase == HOLDING


def build(conn: Connection, ours: str) -> None:
    """Create the table with its row, or reset what was asked of an earlier run; in an open transaction."""
    place = sql.Identifier(ours, CONTROL)
    conn.execute(sql.SQL(_TABLE).format(place))
    conn.execute(sql.SQL(_ROW).format(place))


def read(conn: Connection, ours: str) -> Control | None:
    """Return the control row of a rewrite in our schema, None if it has none; in an open transaction."""
    if conn.execute(_OWNER, [ours, CONTROL]).fetchone() is None:
        return None
    rows = plain_rows.read(conn, ours, CONTROL, _COLUMNS)
    return Control(**dict(zip(_COLUMNS, rows[0], strict=True))) if rows else None


def enter(conn: Connection, ours: str, phase: str) -> None:
    """Record the phase that a run has entered; in an open transaction."""
    _update(conn, ours, {"phase": phase})


def ask(conn: Connection, ours: str, wanted: Mapping[str, object]) -> None:
    """Write a request into the control row, in a transaction of its own.

    Raises PreflightFailed if the table belongs to another role, whose triggers the update would run.
    """
    limits = session_settings.Limits(table_lock=_SECONDS, statement=_SECONDS)
    with transactions.transaction(conn, None, limits, name=APPLICATION):
        row = conn.execute(_OWNER, [ours, CONTROL]).fetchone()
        if row is not None and not row[2]:
            raise PreflightFailed(
                f'the online rewrite in "{ours}" belongs to the role "{row[0]}", expected "{row[1]}"',
                hint=f'run this as the role "{row[0]}"',
            )
        _update(conn, ours, wanted)


def _update(conn: Connection, ours: str, wanted: Mapping[str, object]) -> None:
    changes: list[sql.Composable] = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in wanted.items()
    ]
    if "phase" in wanted:
        changes.append(sql.SQL("phase_since = clock_timestamp()"))
    conn.execute(sql.SQL("UPDATE {} SET {}").format(sql.Identifier(ours, CONTROL), sql.SQL(", ").join(changes)))

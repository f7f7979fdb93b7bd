"""SQL about the server's sessions: which ones belong to this program, and whose snapshots an online rewrite awaits.

The views show the process, role and application name of every session to everybody. They show the state of a session
and the age of its transaction only to members of its role and of pg_read_all_stats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from schema_migrator.postgres.conninfo import PROGRAM

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

OURS: LiteralString = f"""
(starts_with(coalesce(a.application_name, ''), '{PROGRAM}')
  AND a.usesysid = (SELECT u.oid FROM pg_catalog.pg_roles u WHERE u.rolname = session_user))
"""  # noqa: S608 - a constant
"""True for a session `a` of this program, whatever its version.

It compares the role too, because any session can set the same application name.
"""

# Every transaction holds its virtualxid. A session whose state we can see, and which has no snapshot, is harmless.
ALIVE: LiteralString = f"""
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.granted AND l.mode = 'ExclusiveLock' AND a.datname = current_database()
  AND a.usesysid IS NOT NULL AND NOT {OURS} AND l.pid <> pg_backend_pid()
  AND (a.state IS NULL OR a.backend_xmin IS NOT NULL)
"""
"""Other transactions in this database that hold a snapshot, or for which our role cannot see whether they do."""

_SEES_ALL = "SELECT current_user::text, pg_has_role('pg_read_all_stats', 'USAGE')"
_HIDDEN: LiteralString = f"""
SELECT a.usename::text, count(*)::int FROM pg_catalog.pg_stat_activity a
WHERE a.datname = current_database() AND a.usesysid IS NOT NULL AND a.state IS NULL AND NOT {OURS}
  AND NOT pg_has_role('pg_read_all_stats', 'USAGE')
GROUP BY 1 ORDER BY 1
"""  # noqa: S608 - constants of this module
_ACTIVE: LiteralString = f"""
SELECT count(*)::int FROM pg_catalog.pg_stat_activity a WHERE a.state = 'active' AND a.pid <> pg_backend_pid()
  AND a.backend_type = 'client backend' AND NOT {OURS}
"""  # noqa: S608 - constants of this module


def sees_all(conn: Connection) -> tuple[str, bool]:
    """Return our role, and whether it may see the activity of every other role's sessions."""
    role, may = conn.execute(_SEES_ALL).fetchone() or ("", False)
    return role, may


def hidden(conn: Connection) -> tuple[tuple[str, int], ...]:
    """Return the roles whose sessions in this database our role may not inspect, each with its number of sessions."""
    return tuple(conn.execute(_HIDDEN).fetchall())


def active(conn: Connection) -> int:
    """Return how many sessions of others are active now, in all databases. Sessions that we cannot see do not count."""
    row = conn.execute(_ACTIVE).fetchone()
    return int(row[0]) if row else 0

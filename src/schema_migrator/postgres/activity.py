"""Queries about sessions and locks: who is active in the database, and who blocks what.

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
# Databases that are copies of one another have tables of the same oid. An autovacuum worker is nobody's session, and
# all else that a plain role sees of it is that it vacuums or analyzes something.
LOCK_HOLDERS: LiteralString = """
SELECT DISTINCT l.pid, CASE WHEN l.pid IS NULL THEN 'a prepared transaction' ELSE format('pid %%s (%%s%%s)', l.pid,
    CASE WHEN v.pid IS NULL OR a.usesysid IS NOT NULL THEN coalesce(nullif(a.application_name, ''), 'unnamed')
      ELSE 'autovacuum' END,
    ', open for ' || round(extract(epoch FROM clock_timestamp() - a.xact_start)) || ' s') END,
  v.pid IS NOT NULL AND a.usesysid IS NULL,
  (SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout')
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN (
  SELECT pid FROM pg_catalog.pg_stat_progress_vacuum UNION SELECT pid FROM pg_catalog.pg_stat_progress_analyze
) v ON v.pid = l.pid
WHERE l.granted AND l.locktype = 'relation' AND c.relname = ANY (%s) AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY 2
"""
TABLE_LOCKS: LiteralString = """
SELECT c.relname::text, l.mode, l.pid, coalesce(p.gid, a.application_name, ''),
  extract(epoch FROM clock_timestamp() - coalesce(p.prepared, a.xact_start))::float
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
  AND x.locktype = 'transactionid'
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
WHERE l.granted AND l.locktype = 'relation' AND n.nspname = %s AND c.relname = ANY (%s)
  AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY 5 DESC NULLS FIRST, 1, 2
"""
LONG_TRANSACTIONS: LiteralString = """
SELECT pid, usename::text, coalesce(application_name, ''),
  round(extract(epoch FROM clock_timestamp() - xact_start))::int
FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND xact_start < clock_timestamp() - make_interval(secs => %s)
"""
OLDEST_TRANSACTION: LiteralString = f"""
SELECT l.pid, coalesce(a.application_name, ''), round(extract(epoch FROM clock_timestamp() - a.xact_start))::int
{ALIVE} AND a.xact_start < clock_timestamp() - make_interval(secs => %s)
UNION ALL
SELECT 0, 'prepared transaction ' || gid, round(extract(epoch FROM clock_timestamp() - prepared))::int
FROM pg_catalog.pg_prepared_xacts
WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => %s)
ORDER BY 3 DESC LIMIT 1
"""  # noqa: S608 - constants of this module
# A transaction can import the snapshot of an older one and then sees no more than that one does. It can do so only
# while the older one is open (PostgreSQL: "Snapshot Synchronization Functions"), so all importers are known when the
# older one ends.
OPEN_SNAPSHOTS: LiteralString = f"""
SELECT l.pid, l.virtualxid, coalesce(a.application_name, ''), age(a.backend_xmin) > age(%s::xid) {ALIVE}
"""
# What bears a worker's name works: the name lasts as long as a transaction. Of a session that our role may not look
# into that is all there is to see. Anybody may take such a name, so only sessions of kin are ended: of the role that
# logged in, of the one that it acts as, of the database's owner, and of their members; the owner's, as a superuser is
# a member of every role by pg_has_role.
ORPHANS: LiteralString = f"""
WITH RECURSIVE kin AS (
  SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname IN (session_user, current_user)
    OR r.oid = (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  UNION SELECT m.member FROM kin JOIN pg_catalog.pg_auth_members m ON m.roleid = kin.oid
)
SELECT a.pid, a.application_name, a.usename::text AS role,
  round(extract(epoch FROM clock_timestamp() - a.query_start))::int AS seconds,
  EXISTS (SELECT FROM kin WHERE kin.oid = a.usesysid) AS kin
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = current_database() AND a.application_name ~ '^{PROGRAM}[^ ]+ worker ' AND a.application_name <> %s
  AND a.state IS DISTINCT FROM 'idle' AND a.pid <> pg_backend_pid() ORDER BY 1
"""  # noqa: S608 - constants of this module
# Percent of the phase: first blocks are read, then their rows' entries written.
PROGRESS: LiteralString = """
SELECT left(regexp_replace(a.query, '\\s+', ' ', 'g'), 80) AS statement,
  round(extract(epoch FROM clock_timestamp() - a.query_start))::int AS seconds,
  ARRAY(SELECT CASE WHEN b.pid = 0 THEN 'a prepared transaction' ELSE format('pid %%s (%%s%%s)', b.pid,
      coalesce(nullif(s.application_name, ''), 'unnamed'),
      ', open for ' || round(extract(epoch FROM clock_timestamp() - s.xact_start)) || ' s') END
    FROM unnest(pg_blocking_pids(a.pid)) AS b(pid) LEFT JOIN pg_stat_activity s ON s.pid = b.pid) AS blocked_by,
  p.phase, nullif(concat_ws(':', a.wait_event_type, a.wait_event), '') AS wait_event,
  CASE a.wait_event WHEN 'SyncRep' THEN 'a synchronous standby, to confirm the commit' END AS waits_for,
  CASE WHEN p.tuples_total > 0 AND p.blocks_done >= p.blocks_total THEN 100 * p.tuples_done / p.tuples_total
    WHEN p.blocks_total > 0 THEN 100 * p.blocks_done / p.blocks_total END AS percent
FROM pg_stat_activity a LEFT JOIN pg_stat_progress_create_index p ON p.pid = a.pid
WHERE a.datname = current_database() AND a.application_name = %s AND a.state = 'active'
"""


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

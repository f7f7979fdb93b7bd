"""What has to be so on the server before an online rewrite begins: room, replicas that keep up, no old transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator import database
from schema_migrator.crew import LAG_BYTES
from schema_migrator.errors import NoSpace, TableLockTimeout

if TYPE_CHECKING:
    from schema_migrator.database import Connection
    from schema_migrator.plan import Online
    from schema_migrator.work import Work

OLD_SECONDS = 600
"""A transaction that is older than this would most likely outlive the copy, and keep the tables from being swapped."""

_KILO = 1024
_LAG = """
SELECT application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint
FROM pg_catalog.pg_stat_replication WHERE pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) > %s ORDER BY 2 DESC LIMIT 1
"""
_OLD = """
SELECT pid, coalesce(application_name, ''), round(extract(epoch FROM clock_timestamp() - xact_start))::int
FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND application_name NOT LIKE %s AND xact_start < clock_timestamp() - make_interval(secs => %s)
UNION ALL
SELECT 0, 'prepared transaction ' || gid, round(extract(epoch FROM clock_timestamp() - prepared))::int
FROM pg_catalog.pg_prepared_xacts
WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => %s)
ORDER BY 3 DESC LIMIT 1
"""
# The disk of the database's own tablespace, asked only where the role may run programs on the server.
_MAY_ASK = "SELECT pg_has_role('pg_execute_server_program', 'USAGE')"
_PLACE = """
SELECT coalesce(nullif(pg_tablespace_location(dattablespace), ''), current_setting('data_directory'))
FROM pg_catalog.pg_database WHERE datname = current_database()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the server tells: bytes free (None: it does not), a replica behind, the oldest transaction."""

    free: int | None
    replica: tuple[str, int] | None
    old: tuple[int, str, int] | None


def check(work: Work, online: Online) -> None:
    """Raise NoSpace or TableLockTimeout where the rewrite is not to begin now; nothing was changed."""
    judge(online, look(work.conn))


def look(conn: Connection) -> Found:
    """Ask the server. A role that may not see other sessions sees none that are old."""
    names = f"{database.APPLICATION}%"
    return Found(
        free=_free(conn),
        replica=conn.execute(_LAG, [LAG_BYTES]).fetchone(),
        old=conn.execute(_OLD, [names, OLD_SECONDS, OLD_SECONDS]).fetchone(),
    )


def judge(online: Online, found: Found) -> None:
    """Raise what speaks against beginning."""
    if found.free is not None and found.free < online.size:
        raise NoSpace(
            f'the server has {found.free >> 20} MB free, expected {online.size >> 20} MB for "{online.table}" anew',
            hint="make room there; in place the steps take as much",
        )
    if found.replica is not None:
        name, behind = found.replica
        raise TableLockTimeout(
            f'the replica "{name}" is {behind >> 20} MB behind, and writing "{online.table}" anew would add to it',
            hint="let it catch up, then run this again",
        )
    if found.old is not None:
        pid, name, seconds = found.old
        who = f"pid {pid} ({name or 'unnamed'})" if pid else name
        raise TableLockTimeout(
            f'a transaction is open since {seconds} s, and "{online.table}" cannot be swapped before it ends: {who}',
            hint="end it or let it end, then run this again",
        )


def _free(conn: Connection) -> int | None:
    """Return the bytes that are free where the database is, None where the server does not tell."""
    row = conn.execute(_MAY_ASK).fetchone()
    if not row or not row[0]:
        return None
    place = (conn.execute(_PLACE).fetchone() or ("",))[0]
    quoted = "'" + place.replace("'", "'\\''") + "'"
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("CREATE TEMP TABLE schema_migrator_disk (line text)")
            program = sql.Literal(f"df -Pk {quoted} | awk 'NR == 2 {{print $4}}'")
            conn.execute(sql.SQL("COPY schema_migrator_disk FROM PROGRAM {}").format(program))
            rows = conn.execute("SELECT line FROM schema_migrator_disk").fetchall()
    except psycopg.Error:
        return None
    figures = [int(line) * _KILO for (line,) in rows if line.isdigit()]
    return figures[-1] if figures else None

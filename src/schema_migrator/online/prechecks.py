"""The checks before an online rewrite starts: enough disk space, replicas that keep up, no old transaction.

During the rewrite, `throttle` checks load, replicas and disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.catalog import owners
from schema_migrator.config import sizes
from schema_migrator.errors import NoSpace, PreflightFailed, ServerBusy, TableLockTimeout
from schema_migrator.online import disk, replicas
from schema_migrator.online.throttle import KEPT
from schema_migrator.postgres import activity, transactions

if TYPE_CHECKING:
    from schema_migrator.config.fields import RunSettings
    from schema_migrator.online.disk import Free
    from schema_migrator.online.replicas import Replicas
    from schema_migrator.planning.plan import Online
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext

OLD_SECONDS = 600
"""A transaction that is older than this would most likely outlive the copy and block the cutover."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConditions:
    """What our role can see on the server.

    `sees_all`: it may look into all sessions. `hidden`: roles with sessions in this database that it may not look into,
    and how many each has. `replicas` and `active`, the number of other sessions that are active, are None if they are
    not watched. `old`: the oldest transaction as (pid, name, seconds), if older than OLD_SECONDS. `free`: None if it is
    unknown.
    """

    role: str
    sees_all: bool
    replicas: Replicas | None = None
    active: int | None = None
    hidden: tuple[tuple[str, int], ...] = ()
    old: tuple[int, str, int] | None = None
    free: Free | None = None


def look(conn: Connection, run: RunSettings) -> ServerConditions:
    """Return the server's conditions. Raises PreflightFailed if the server should run `df` and cannot."""
    with transactions.look(conn):
        role, sees_all = activity.sees_all(conn)
        return ServerConditions(
            role=role,
            sees_all=sees_all,
            replicas=None if run.max_replica_lag is None else replicas.look(conn, run.ignore_replicas),
            active=activity.active(conn) if run.max_load is not None and sees_all else None,
            hidden=activity.hidden(conn),
            old=conn.execute(activity.OLDEST_TRANSACTION, [OLD_SECONDS, OLD_SECONDS]).fetchone(),
            free=disk.look(conn, run.disk_free),
        )


def check(work: RunContext, online: Online) -> None:
    """Raise the reason against starting now, before anything changes. What could not be seen is logged."""
    run = work.settings.run
    found = look(work.conn, run)
    judge(online, run, found)
    _tell(online, found)


def assert_seen(work: RunContext, online: Online) -> None:
    """Raise PreflightFailed if a rewrite should resume under limits that our role cannot watch."""
    judge_sight(online, work.settings.run, look(work.conn, work.settings.run), begun=True)


def judge(online: Online, run: RunSettings, found: ServerConditions) -> None:
    """Raise the reason against starting: PreflightFailed, NoSpace, ServerBusy or TableLockTimeout."""
    judge_sight(online, run, found)
    lacking = disk.lacking(disk.need(online), found.free) if found.free else ""
    if lacking:
        raise NoSpace(
            f'{lacking} of "{online.table}"',
            hint="free disk space there, or use --rewrite in-place, which locks the table and needs as much space",
        )
    late = found.replicas.late(run.max_replica_lag) if found.replicas and run.max_replica_lag else None
    if late is not None and run.max_replica_lag:
        raise ServerBusy(
            f'{replicas.lateness(late, run.max_replica_lag)}, and the rewrite of "{online.table}" would add to it',
            hint=replicas.LEAVE_OUT,
        )
    if found.old is not None:
        pid, name, seconds = found.old
        who = f"pid {pid} ({name or 'unnamed'})" if pid else name
        raise TableLockTimeout(
            f'a transaction is {seconds} s old, and "{online.table}" cannot be cut over until it ends: {who}',
            hint="end it or wait for it, then run this again",
        )


def judge_sight(online: Online, run: RunSettings, found: ServerConditions, *, begun: bool = False) -> None:
    """Raise PreflightFailed if our role cannot see what a limit applies to; `begun`: the rewrite has started before."""
    kept, goes_on = (f"; {KEPT}", "go on") if begun else ("", "begin")
    if run.max_load is not None and not found.sees_all:
        raise PreflightFailed(
            f'--max-load cannot be kept: the role "{found.role}" does not see what the sessions of other roles do',
            hint=f"as a superuser run: {grant(found.role)} or drop --max-load{kept}",
        )
    if found.replicas is not None and found.replicas.unseen:
        raise PreflightFailed(
            f'{replicas.blindness(found.replicas, found.role)}, so the rewrite of "{online.table}" does not {goes_on}',
            hint=replicas.remedy(found.role) + kept,
        )


def grant(role: str) -> str:
    """Return the SQL that lets a role look into all sessions."""
    return f"GRANT pg_read_all_stats TO {owners.quoted(role)};"


def _tell(online: Online, found: ServerConditions) -> None:
    log = events.logger()
    if found.hidden:
        log.warning(
            "online.sessions_hidden",
            sessions=dict(found.hidden),
            reason="their transactions may be old: if so, the cutover waits for them",
            remedy=grant(found.role),
        )
    for slot in found.replicas.idle if found.replicas else ():
        log.warning("online.slot_idle", slot=slot.name, bytes_kept=slot.kept)
    if found.replicas and found.replicas.unmatched:
        log.warning("online.replica_unknown", names=list(found.replicas.unmatched))
    if found.free is None:
        wanted = disk.need(online).total
        log.warning("online.disk_unknown", bytes_needed=wanted, needed=sizes.text(wanted), remedy="--disk-free")

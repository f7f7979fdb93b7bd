"""The checks before an online rewrite starts: its budgets, enough disk space, no old transaction.

During the rewrite, `throttle` checks the budgets and the disk.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.config import sizes
from schema_migrator.errors import NoSpace, PreflightFailed, ServerBusy, TableLockTimeout
from schema_migrator.online import budgets, disk
from schema_migrator.online.budgets import Reading
from schema_migrator.online.throttle import KEPT
from schema_migrator.postgres import activity, transactions

if TYPE_CHECKING:
    from schema_migrator.config.fields import RunSettings
    from schema_migrator.online.disk import Free
    from schema_migrator.planning.plan import Online
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext

OLD_SECONDS = 600
"""A transaction that is older than this would most likely outlive the copy and block the cutover."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConditions(Reading):
    """What our role can see on the server, beyond what the budgets read.

    `hidden`: roles with sessions in this database that it may not look into, and how many each has. `old`: the oldest
    transaction as (pid, name, seconds), if older than OLD_SECONDS. `free`: None if it is unknown.
    """

    hidden: tuple[tuple[str, int], ...] = ()
    old: tuple[int, str, int] | None = None
    free: Free | None = None


def look(conn: Connection, run: RunSettings) -> ServerConditions:
    """Return the server's conditions. Raises PreflightFailed if the server should run `df` and cannot."""
    with transactions.look(conn):
        found = budgets.read(conn, run)
        return ServerConditions(
            **{each.name: getattr(found, each.name) for each in fields(found)},
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
    if (reason := budgets.exceeded(run, found)) is not None:
        raise ServerBusy(f'{reason.said}, and the rewrite of "{online.table}" would add to it', hint=reason.remedy)
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
    if (reason := budgets.unseen(run, found)) is not None:
        raise PreflightFailed(
            f'{reason.said}, so the rewrite of "{online.table}" does not {goes_on}', hint=reason.remedy + kept
        )


def _tell(online: Online, found: ServerConditions) -> None:
    log = events.logger()
    if found.hidden:
        log.warning(
            "online.sessions_hidden",
            sessions=dict(found.hidden),
            reason="their transactions may be old: if so, the cutover waits for them",
            remedy=budgets.grant(found.role),
        )
    for slot in found.replicas.idle if found.replicas else ():
        log.warning("online.slot_idle", slot=slot.name, bytes_kept=slot.kept)
    if found.replicas and found.replicas.unmatched:
        log.warning("online.replica_unknown", names=list(found.replicas.unmatched))
    if found.free is None:
        wanted = disk.need(online).total
        log.warning("online.disk_unknown", bytes_needed=wanted, needed=sizes.text(wanted), remedy="--disk-free")

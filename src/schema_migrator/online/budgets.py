"""The budgets of an online rewrite: what it may cost others, and whether it may go on.

`read` asks the server. What follows from the answer is decided in pure functions. When the rewrite pauses or ends is in
`throttle`, what has to be true before it begins is in `prechecks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.catalog import owners
from schema_migrator.config import sizes
from schema_migrator.online import archive, replicas
from schema_migrator.postgres import activity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_migrator.config.fields import RunSettings
    from schema_migrator.online.archive import Archive
    from schema_migrator.online.replicas import Replicas
    from schema_migrator.postgres.connection import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the server shows our role at one moment.

    `sees_all`: the role may look into all sessions. `replicas`, `archive` and `active`, the number of other sessions
    that are active, are None if they are not watched, cannot be seen, or do not exist.
    """

    role: str
    sees_all: bool
    replicas: Replicas | None = None
    archive: Archive | None = None
    active: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a rewrite may not go on: a clause without its full stop, and what to do."""

    said: str
    remedy: str


def read(conn: Connection, run: RunSettings) -> Reading:
    """Return what the server shows of what has a limit; in an open transaction."""
    role, sees_all = activity.sees_all(conn)
    return Reading(
        role=role,
        sees_all=sees_all,
        replicas=None if run.max_replica_lag is None else replicas.look(conn, run.ignore_replicas),
        archive=None if run.max_archive_lag is None else archive.look(conn),
        active=activity.active(conn) if run.max_load is not None and sees_all else None,
    )


def exceeded(run: RunSettings, found: Reading) -> Reason | None:
    """Return which limit on the server's WAL is exceeded, None if none is. A rewrite would add to it."""
    return next(_exceeded(run, found), None)


def _exceeded(run: RunSettings, found: Reading) -> Iterator[Reason]:
    if found.replicas and run.max_replica_lag is not None:
        yield from _replicas(run.max_replica_lag, run.max_slot_wal, found.replicas)
    if found.archive and run.max_archive_lag is not None:
        yield from _archive(run.max_archive_lag, found.archive)


def _replicas(most: int, retained: int | None, found: Replicas) -> Iterator[Reason]:
    late = found.late(most)
    if late is not None:
        yield Reason(said=replicas.lateness(late, most), remedy=replicas.LEAVE_OUT)
    for slot in found.slots:
        if slot.endangered:
            yield Reason(
                said=f'the slot "{slot.name}" loses its WAL after another {sizes.text(slot.left or 0)}'
                " (max_slot_wal_keep_size)",
                remedy=f"let its reader catch up, or exclude it by name: --ignore-replica {slot.name}",
            )
        if slot.idle and retained is not None and slot.kept > retained:
            yield Reason(
                said=f'the slot "{slot.name}", which nothing reads, retains {sizes.text(slot.kept)} of WAL, the limit'
                f" is {sizes.text(retained)}",
                remedy="find out what it is for: a slot that nothing needs can be dropped; or exclude it by name:"
                f" --ignore-replica {slot.name}; --max-slot-wal sets the limit",
            )


def _archive(most: int, found: Archive) -> Iterator[Reason]:
    remedy = "see archive_command and the server's log; --max-archive-lag sets the limit, off: not watched"
    if found.failed:
        since = "" if found.seconds is None else f" for {found.seconds} s"
        yield Reason(
            said=f"the server has archived no WAL{since}: its last attempt, {found.failed}, failed", remedy=remedy
        )
    if found.behind is not None and found.behind > most:
        yield Reason(
            said=f"the WAL archive is {sizes.text(found.behind)} behind, the limit is {sizes.text(most)}", remedy=remedy
        )


def figures(run: RunSettings, found: Reading) -> dict[str, int | None]:
    """Return what has been used of each budget that the server shows, and its limit; None if unknown or not limited.

    Sizes are in bytes. Of several replicas or slots, it is the one that is furthest behind.
    """
    lags = [replica.behind for replica in found.replicas.seen if replica.behind is not None] if found.replicas else []
    retained = [slot.kept for slot in found.replicas.idle] if found.replicas else []
    return {
        "replica_lag": max(lags, default=None),
        "replica_lag_limit": run.max_replica_lag,
        "slot_wal": max(retained, default=None),
        "slot_wal_limit": run.max_slot_wal,
        "archive_lag": found.archive.behind if found.archive else None,
        "archive_lag_limit": run.max_archive_lag,
        "active_sessions": found.active,
        "active_sessions_limit": run.max_load,
    }


def busy(run: RunSettings, found: Reading) -> Reason | None:
    """Return that too many sessions of others are active, None if not."""
    if run.max_load is None or found.active is None or found.active <= run.max_load:
        return None
    return Reason(
        said=f"{found.active} sessions of others are active, the limit is {run.max_load}",
        remedy="wait until the server is less busy; --max-load sets the limit",
    )


def workers(allowed: int, most: int, seconds: float, limit: float) -> int:
    """Return how many workers may work, after a small commit took `seconds`: half of them above the limit.

    Below half of the limit it is twice as many again. It is never more than `most`.
    """
    if seconds > limit:
        return max(1, min(most, allowed // 2))
    return min(most, allowed * 2 if seconds < limit / 2 else allowed)


def unseen(run: RunSettings, found: Reading) -> Reason | None:
    """Return which limit our role cannot watch, None if none."""
    if run.max_load is not None and not found.sees_all:
        return Reason(
            said=f'--max-load cannot be kept: the role "{found.role}" does not see what the sessions of other roles do',
            remedy=f"as a superuser run: {grant(found.role)} or drop --max-load",
        )
    if found.replicas is not None and found.replicas.unseen:
        return Reason(said=replicas.blindness(found.replicas, found.role), remedy=replicas.remedy(found.role))
    return None


def grant(role: str) -> str:
    """Return the SQL that lets a role look into all sessions."""
    return f"GRANT pg_read_all_stats TO {owners.quoted(role)};"

"""What follows the server's WAL, and how far behind it is: by its slot, which everybody may see, else by its walsender.

What counts is how much WAL it has not received: that fills the server's disk and delays a failover. A standby that
replays late on purpose (recovery_min_apply_delay) receives in time, and its slot follows what it has flushed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from schema_migrator.catalog import owners
from schema_migrator.config import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.postgres.connection import Connection

# A walsender that makes a base backup, or has not begun yet, feeds nobody who could fall behind.
_LOOK: LiteralString = """
SELECT coalesce(nullif(r.application_name, ''), s.slot_name::text, 'unnamed'), s.slot_name::text,
  coalesce(r.pid, s.active_pid),
  pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(s.restart_lsn, r.flush_lsn))::bigint
FROM pg_catalog.pg_stat_replication r FULL JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
WHERE s.slot_name IS NOT NULL OR r.state IS NULL OR r.state NOT IN ('backup', 'startup')
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A standby, a subscriber or another consumer of WAL that is connected.

    `behind`: bytes of WAL that the server keeps for it or that it has not flushed; None where our role cannot tell.
    """

    name: str
    slot: str | None
    pid: int
    behind: int | None

    @property
    def said(self) -> str:
        """Return it for people, by the names that leave it out."""
        of_slot = f' (slot "{self.slot}")' if self.slot not in (None, self.name) else ""
        return f'"{self.name}"{of_slot}'


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleSlot:
    """A slot that nobody reads: the bytes of WAL that the server keeps for it grow with all that is written."""

    name: str
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """What follows the server, without what is excluded (`left_out`); `unmatched`: excluded names that nothing has."""

    seen: tuple[Replica, ...] = ()
    idle: tuple[IdleSlot, ...] = ()
    left_out: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()

    @property
    def unseen(self) -> tuple[Replica, ...]:
        """Return those of which our role cannot tell how far behind they are."""
        return tuple(one for one in self.seen if one.behind is None)

    def late(self, limit: int) -> Replica | None:
        """Return the one that is furthest behind, if that is further than the limit."""
        known = [one for one in self.seen if one.behind is not None and one.behind > limit]
        return max(known, key=lambda one: one.behind or 0, default=None)


def look(conn: Connection, ignored: Sequence[str]) -> Replicas:
    """Ask the server; `ignored` are names of applications and of slots."""
    rows = conn.execute(_LOOK).fetchall()
    kept = [row for row in rows if not {row[0], row[1]} & set(ignored)]
    names = {name for row in rows for name in row[:2]}
    return Replicas(
        seen=tuple(Replica(name=name, slot=slot, pid=pid, behind=gap) for name, slot, pid, gap in kept if pid),
        idle=tuple(IdleSlot(name=slot, kept=gap) for _, slot, pid, gap in kept if not pid and gap is not None),
        left_out=tuple(name for name in ignored if name in names),
        unmatched=tuple(name for name in ignored if name not in names),
    )


LEAVE_OUT = "wait for it to catch up, or exclude it by name: --ignore-replica; --max-replica-lag sets the limit"
"""What to do about a replica that is too far behind."""


def remedy(role: str) -> str:
    """Return what lets our role see all replicas, or does without."""
    return (
        f"as a superuser run: GRANT pg_monitor TO {owners.quoted(role)}; or let the replica use a slot, exclude it"
        " by name (--ignore-replica), or disable the check: --max-replica-lag off"
    )


def lateness(one: Replica, limit: int) -> str:
    """Return the sentence about a replica that is too far behind."""
    return f"the replica {one.said} is {sizes.text(one.behind or 0)} behind, the limit is {sizes.text(limit)}"


def blindness(found: Replicas, role: str) -> str:
    """Return the sentence about replicas that our role cannot see."""
    names = ", ".join(f"{one.said} (pid {one.pid})" for one in found.unseen)
    return f'the role "{role}" cannot see how far behind the replica {names} is'

"""The consumers of the server's WAL, and how far behind each is.

The lag is read from the consumer's slot, which every role may see, or without a slot from its walsender. It is the WAL
that the consumer has not received: that WAL fills the server's disk and delays a failover. A standby that replays late
on purpose (recovery_min_apply_delay) receives in time, and its slot follows what it has flushed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from schema_migrator.catalog import owners
from schema_migrator.config import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.postgres.connection import Connection

_NEAR_BYTES = 256 * 1024 * 1024
# A walsender that sends a base backup, or is only starting, has no consumer that could fall behind.
_LOOK: LiteralString = """
SELECT coalesce(nullif(r.application_name, ''), s.slot_name::text, 'unnamed'), s.slot_name::text,
  coalesce(r.pid, s.active_pid), coalesce(s.slot_type = 'logical', false),
  pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
    coalesce(s.restart_lsn, r.flush_lsn))::bigint, s.safe_wal_size,
  (SELECT k.setting::bigint * 1024 * 1024 FROM pg_catalog.pg_settings k WHERE k.name = 'max_slot_wal_keep_size')
FROM pg_catalog.pg_stat_replication r FULL JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
WHERE s.slot_name IS NOT NULL OR r.state IS NULL OR r.state NOT IN ('backup', 'startup')
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A connected consumer of WAL: a standby, a subscriber or another.

    `behind`: bytes of WAL that the server keeps for it, or that it has not flushed; None if our role cannot see that.
    `logical`: it decodes the WAL, which needs a slot, and is no standby.
    """

    name: str
    slot: str | None
    pid: int
    behind: int | None
    logical: bool = False

    @property
    def said(self) -> str:
        """Return its name and slot for a message; --ignore-replica accepts either."""
        of_slot = f' (slot "{self.slot}")' if self.slot not in (None, self.name) else ""
        return f'"{self.name}"{of_slot}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A replication slot. The server keeps `kept` bytes of WAL for it; `idle`: it has no consumer.

    `left`: bytes that the server may still write before the slot loses its WAL, None if there is no such limit.
    `limit`: that limit in bytes (max_slot_wal_keep_size).
    """

    name: str
    kept: int
    idle: bool
    left: int | None = None
    limit: int | None = None

    @property
    def endangered(self) -> bool:
        """Whether the slot will soon lose its WAL: its consumer must then be recreated."""
        return self.left is not None and self.left < min(_NEAR_BYTES, (self.limit or 0) // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The consumers of WAL and the slots, without the excluded ones (`left_out`).

    `unmatched`: excluded names that none has.
    """

    seen: tuple[Replica, ...] = ()
    slots: tuple[Slot, ...] = ()
    left_out: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()

    @property
    def idle(self) -> tuple[Slot, ...]:
        """Return the slots without a consumer."""
        return tuple(slot for slot in self.slots if slot.idle)

    @property
    def standbys(self) -> tuple[Replica, ...]:
        """Return the replicas that replay the WAL, and with it the cutover's lock."""
        return tuple(replica for replica in self.seen if not replica.logical)

    @property
    def unseen(self) -> tuple[Replica, ...]:
        """Return the replicas whose lag our role cannot see."""
        return tuple(replica for replica in self.seen if replica.behind is None)

    def late(self, limit: int) -> Replica | None:
        """Return the replica that is furthest behind, if by more than `limit` bytes, otherwise None."""
        late = [replica for replica in self.seen if replica.behind is not None and replica.behind > limit]
        return max(late, key=lambda replica: replica.behind or 0, default=None)


def look(conn: Connection, ignored: Sequence[str]) -> Replicas:
    """Return the server's replicas and idle slots, except `ignored` ones, by name of the application or the slot."""
    rows = conn.execute(_LOOK).fetchall()
    kept = [row for row in rows if not {row[0], row[1]} & set(ignored)]
    names = {name for row in rows for name in row[:2]}
    return Replicas(
        seen=tuple(
            Replica(name=name, slot=slot, pid=pid, behind=gap, logical=logical)
            for name, slot, pid, logical, gap, _, _ in kept
            if pid
        ),
        slots=tuple(
            Slot(name=slot, kept=gap, idle=not pid, left=left, limit=limit)
            for _, slot, pid, _, gap, left, limit in kept
            if slot is not None and gap is not None
        ),
        left_out=tuple(name for name in ignored if name in names),
        unmatched=tuple(name for name in ignored if name not in names),
    )


LEAVE_OUT = "wait for it to catch up, or exclude it by name: --ignore-replica; --max-replica-lag sets the limit"
"""The remedy for a replica that is too far behind."""


def remedy(role: str) -> str:
    """Return the ways to let our role see all replicas, or to do without."""
    return (
        f"as a superuser run: GRANT pg_monitor TO {owners.quoted(role)}; or let the replica use a slot, exclude it"
        " by name (--ignore-replica), or disable the check: --max-replica-lag off"
    )


def lateness(replica: Replica, limit: int) -> str:
    """Return the sentence about a replica that is too far behind."""
    return f"the replica {replica.said} is {sizes.text(replica.behind or 0)} behind, the limit is {sizes.text(limit)}"


def blindness(found: Replicas, role: str) -> str:
    """Return the sentence about replicas that our role cannot see."""
    names = ", ".join(f"{replica.said} (pid {replica.pid})" for replica in found.unseen)
    return f'the role "{role}" cannot see how far behind the replica {names} is'

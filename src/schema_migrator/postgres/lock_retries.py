"""Patience with the table locks of others: short tries, so that no writer queues behind ours for long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import tenacity

from schema_migrator import events
from schema_migrator.errors import TableLockTimeout
from schema_migrator.postgres import activity, transactions

if TYPE_CHECKING:
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.postgres.connection import Connection

T = TypeVar("T")

_MARGIN_SECONDS = 1.0
_AUTOVACUUM = "an autovacuum that does not yield is preventing wraparound: wait for it to finish"


@dataclass(slots=True, kw_only=True)
class _Queue:
    """What is known of those who hold tables' locks; `asked`: the autovacuum workers that were waited for longer."""

    conn: Connection
    tables: Sequence[str]
    told: dict[str, object]
    holders: tuple[str, ...] = ()
    seconds: float | None = None
    asked: set[int] = field(default_factory=set)

    def look(self, retry: tenacity.RetryCallState) -> None:
        """Say who holds them, before the next try."""
        self._ask()
        shown = {**self.told, "tables": list(self.tables)} if self.told else {}  # a look may read any of a store's
        events.logger().info("table.busy", **shown, attempt=retry.attempt_number, held_by=list(self.holders))

    def next(self) -> float | None:
        """Return how long the next try may queue, None if as usual.

        An autovacuum worker gives way to whoever has waited for deadlock_timeout, unless it prevents wraparound
        (PostgreSQL: "Routine Vacuuming"). So each of them is waited for that long, once.
        """
        seconds, self.seconds = self.seconds, None
        return seconds

    def named(self, error: TableLockTimeout) -> TableLockTimeout:
        """Return the error with those who hold the locks."""
        self._ask()
        if not self.holders:
            return error
        return TableLockTimeout(
            f"{error.message}; the locks are held by {', '.join(self.holders)}",
            hint=f"{_AUTOVACUUM}; {error.hint}" if self.asked else error.hint,
            store=error.store,
            detail=error.detail,
        )

    def _ask(self) -> None:
        found = transactions.ask(self.conn, activity.LOCK_HOLDERS, [list(self.tables)])
        self.holders = tuple(said for _, said, _, _ in found)
        workers = {pid: limit for pid, _, autovacuum, limit in found if autovacuum and pid not in self.asked}
        if workers:
            self.seconds = max(workers.values()) / 1000 + _MARGIN_SECONDS
            self.asked |= workers.keys()


def retried(
    conn: Connection,
    interrupt: Interrupt,
    tables: Sequence[str],
    attempt: Callable[[float | None], T],
    *,
    seconds: float,
    **told: object,
) -> T:
    """Return what an attempt returns, tried again after a growing pause while it cannot get its table locks.

    The attempt is told how many seconds it may queue this time (None: as usual) and leaves nothing open when it raises
    TableLockTimeout. At the deadline that is raised, with those who hold the locks. `told` is in the events.
    """
    queue = _Queue(conn=conn, tables=tables, told=told)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TableLockTimeout),
        stop=tenacity.stop_after_delay(seconds) | tenacity.stop_when_event_set(interrupt.event),
        wait=tenacity.wait_exponential(multiplier=0.2, max=10) + tenacity.wait_random(0, 1),
        sleep=tenacity.sleep_using_event(interrupt.event),
        before_sleep=queue.look,
        reraise=True,
    )
    try:
        return retrying(lambda: attempt(queue.next()))
    except TableLockTimeout as error:
        interrupt.check()
        raise queue.named(error) from error

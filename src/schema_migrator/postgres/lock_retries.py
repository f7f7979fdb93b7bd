"""Retries for table locks. Each attempt queues only briefly, so that no writer queues behind it for long."""

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
    """The sessions that hold locks on some tables. `asked` are the autovacuum workers that had a longer attempt."""

    conn: Connection
    tables: Sequence[str]
    told: dict[str, object]
    holders: tuple[str, ...] = ()
    seconds: float | None = None
    asked: set[int] = field(default_factory=set)

    def look(self, retry: tenacity.RetryCallState) -> None:
        """Log the sessions that hold the locks, before the next attempt."""
        self._ask()
        shown = {**self.told, "tables": list(self.tables)} if self.told else {}  # a look may read any table of a store
        events.logger().info("table.busy", **shown, attempt=retry.attempt_number, held_by=list(self.holders))

    def next(self) -> float | None:
        """Return how many seconds the next attempt may queue; None means as usual.

        An autovacuum worker gives way to a session that has waited for deadlock_timeout, unless it prevents wraparound
        (PostgreSQL: "Routine Vacuuming"). So one attempt per worker queues that long.
        """
        seconds, self.seconds = self.seconds, None
        return seconds

    def named(self, error: TableLockTimeout) -> TableLockTimeout:
        """Return the error, completed by the sessions that hold the locks."""
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
        self.holders = tuple(holder for _, holder, _, _ in found)
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
    """Repeat `attempt`, with growing pauses, until it gets its table locks, and return its result.

    `attempt` receives the number of seconds that it may queue this time (None: as usual), and must leave nothing open
    when it raises TableLockTimeout. After `seconds` that error is raised, completed by the sessions that hold the
    locks. The events contain `told`.
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

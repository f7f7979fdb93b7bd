"""The context of a run on one store: its connection, settings and lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.postgres import session_settings

if TYPE_CHECKING:
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings, StoreSettings
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.postgres.session_settings import Limits
    from schema_migrator.releases.source import Release
    from schema_migrator.runs.advisory_lock import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The context of a run on one store.

    `queue_seconds`: how long the next attempt may queue for a table lock, if longer than the setting.
    """

    conn: Connection
    release: Release
    settings: Settings
    store: StoreSettings
    lock: Lock
    interrupt: Interrupt
    queue_seconds: float | None = None

    @property
    def limits(self) -> Limits:
        """The timeouts of a transaction on a store in use."""
        run = self.settings.run
        return session_settings.Limits(
            table_lock=max(run.ddl_lock_timeout, self.queue_seconds or 0),
            statement=run.statement_timeout,
            commit=run.wait_timeout,
        )

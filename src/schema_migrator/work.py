"""What a run works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator import database

if TYPE_CHECKING:
    from schema_migrator.database import Connection, Limits
    from schema_migrator.lock import Lock
    from schema_migrator.settings import Settings, StoreSettings
    from schema_migrator.source import Release
    from schema_migrator.workers import Interrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a run works with. `direct` reaches the server past a transaction pooler."""

    conn: Connection
    release: Release
    settings: Settings
    store: StoreSettings
    lock: Lock
    interrupt: Interrupt

    @property
    def limits(self) -> Limits:
        """Timeouts of a transaction on a store in use."""
        return database.Limits(
            table_lock=self.settings.run.ddl_lock_timeout, statement=self.settings.run.statement_timeout
        )

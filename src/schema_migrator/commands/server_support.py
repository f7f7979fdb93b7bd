"""Which of Temporal's servers can start on a store, now and after the migration, and which are alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.catalog import cluster_members
from schema_migrator.releases import servers
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.version import Version

    from schema_migrator.commands.store_tasks import StoreTask
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.releases.servers import Startable


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSupport:
    """The newest servers that start on a store, and the number of living servers by role.

    `alive` is None if the store has no table of them or it cannot be read. `running` is the version that a frontend
    reports, None if no frontend was asked.
    """

    startable: Startable
    alive: Mapping[str, int] | None = None
    running: str | None = None


def look(task: StoreTask, overview: Overview, after: Version | None, running: str | None) -> ServerSupport:
    """Return which servers the store supports; `after` is its version after the migration."""
    known, store = task.settings.library.servers(), task.store.store
    recorded = None if overview.recorded == UNVERSIONED else overview.recorded
    has_members = cluster_members.TABLE in task.place.source.tables & {*overview.facts.tables}
    schema = overview.facts.schema or ""
    return ServerSupport(
        startable=servers.startable(known, store, recorded, after),
        alive=cluster_members.alive(task.place.conn, schema) if has_members else None,
        running=running,
    )

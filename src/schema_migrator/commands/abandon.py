"""The command `migrate --abandon`: removes what online rewrites left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.catalog import leftovers
from schema_migrator.commands.store_tasks import StoreTask, each, looks, tasks, working
from schema_migrator.errors import PreflightFailed
from schema_migrator.online import cleanup
from schema_migrator.planning import notices
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.releases.source import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What online rewrites had left behind in a store, and what this run removed."""

    store: Store
    database: str
    removed: tuple[Leftover, ...]


def abandon(settings: Settings, interrupt: Interrupt) -> tuple[Removal, ...]:
    """Remove what online rewrites left behind, including old tables that were kept on request."""
    with tasks(settings, interrupt) as by_store:
        overviews = looks(by_store)
        return tuple(each(by_store, lambda task: _abandon(task, overviews[task.store.store])).values())


def _abandon(task: StoreTask, overview: Overview) -> Removal:
    schema = overview.facts.schema or ""
    removed: tuple[Leftover, ...] = ()
    if overview.whose.leftovers:
        with working(task) as work:
            removed = cleanup.abandon(work, schema, kept=True)
    if not removed:
        notices.refuse_unsettled(overview.whose.foreign_schemas)
        _refuse_unseen(task, overview)
    return Removal(store=task.store.store, database=task.store.database, removed=removed)


def _refuse_unseen(task: StoreTask, overview: Overview) -> None:
    """Raise PreflightFailed if the role sees no store, but something that a rewrite left behind."""
    if overview.facts.versioned:
        return
    with transactions.look(task.place.conn):
        left = leftovers.of_ours(task.place.conn)
    if left:
        raise PreflightFailed(
            f'the role "{overview.facts.role}" finds no tables of the store, but finds what a rewrite left behind: '
            f"{', '.join(left)}",
            hint="GRANT USAGE on the store's schema to it, or name the schema: search_path in SQL_CONNECT_ATTRIBUTES",
        )

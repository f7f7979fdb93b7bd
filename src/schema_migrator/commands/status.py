"""The command `status`: where every store is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from schema_migrator import events
from schema_migrator.catalog import leftovers
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.commands.store_tasks import StoreTask, each, looks, steadily, tasks
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.state import At
from schema_migrator.diagnosis.verdict import unlisted
from schema_migrator.errors import PreflightFailed, StatementFailed
from schema_migrator.planning import notices
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.state import Overview, State
    from schema_migrator.releases.source import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """Where a store is, and where it is to be; servers of the `release` need `needed`, which may be above the target.

    `unlisted`: see verify.Verdict; an unfinished online rewrite has `copied` rows; `invalid` and `keyless`: see
    state.Facts; `elsewhere`: schemas where tables of the store are too, where nothing says which is meant.
    """

    store: Store
    database: str
    target: Version
    needed: Version
    release: str
    state: State
    unlisted: tuple[Version, ...] = ()
    whose: Ownership = UNSEEN
    copied: int = 0
    invalid: tuple[str, ...] = ()
    keyless: tuple[str, ...] = ()
    elsewhere: str = ""

    @property
    def too_old_for_servers(self) -> bool:
        """Whether the store has reached its target, and servers of the release do not start on it all the same."""
        return isinstance(self.state, At) and self.target <= self.state.version < self.needed

    @property
    def up_to_date(self) -> bool:
        """Whether the store is at its target and at what servers need, or above, and no index is known to be wrong."""
        reached = isinstance(self.state, At) and self.state.version >= max(self.target, self.needed)
        return reached and not self.invalid and not self.keyless


def status(settings: Settings, interrupt: Interrupt) -> tuple[StoreStatus, ...]:
    """Return where every store is."""
    with tasks(settings, interrupt) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: _status(task, sights[task.store.store])).values())


def describe(settings: Settings, interrupt: Interrupt) -> dict[Store, Version | None]:
    """Return what is recorded, and no more than that."""
    with tasks(settings, interrupt) as those:
        return {store: overview.recorded for store, overview in looks(those).items()}


def _status(task: StoreTask, overview: Overview) -> StoreStatus:
    """Look closer; what seems half done may only be on its way from one version to another."""
    return steadily(task, overview, look, lambda status: not examine.at_rest(status.state))


def look(task: StoreTask, overview: Overview) -> StoreStatus:
    """Return a store's status, after the first look at it."""
    found = _examined(task, overview)
    listed = examine.read_history(task.place.conn, overview)
    reached = found.state.version if isinstance(found.state, At) else None
    return StoreStatus(
        store=task.store.store,
        database=task.store.database,
        target=task.target,
        needed=task.needed,
        release=task.place.release.version,
        state=found.state,
        unlisted=unlisted(task.place.source.versions, listed, reached) if reached else (),
        whose=overview.whose,
        copied=_copied(task, overview),
        invalid=() if reached is None or reached > task.target else tuple(overview.facts.invalid),
        keyless=() if reached is None else tuple(overview.facts.keyless),
        elsewhere=notices.elsewhere(overview),
    )


def _examined(task: StoreTask, overview: Overview) -> examine.Examination:
    """Examine closely; if the server refuses what a rehearsal makes, as in a freeze of DDL, the version row tells."""
    try:
        return examine.examine(task.place, overview, task.target)
    except (psycopg.errors.RaiseException, StatementFailed, PreflightFailed) as error:
        reason = error.diag.message_primary if isinstance(error, psycopg.Error) else error.message
        events.logger().warning("rehearsal.refused", reason=reason, shown="the recorded version, without a comparison")
        return examine.Examination(overview=overview)


def _copied(task: StoreTask, overview: Overview) -> int:
    """Return how many rows unfinished rewrites have copied."""
    with transactions.look(task.place.conn):
        return sum(leftovers.copied(task.place.conn, one) for one in overview.whose.leftovers if one.unfinished)

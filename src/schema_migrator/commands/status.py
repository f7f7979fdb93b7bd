"""The command `status`: the state of every store, compared with its target and with what servers need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

import psycopg

from schema_migrator import events
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.commands import rehearsal_servers, server_support
from schema_migrator.commands.rewrite import RunningRewrite, running
from schema_migrator.commands.store_tasks import StoreTask, each, looks, steadily, tasks
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.state import Absent, At, Between, Unknown, Unrecorded
from schema_migrator.diagnosis.verdict import unlisted
from schema_migrator.errors import PreflightFailed, StatementFailed
from schema_migrator.planning import notices

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.catalog.standby import Standby
    from schema_migrator.commands.rehearsal_servers import EmbeddedServer
    from schema_migrator.commands.server_support import ServerSupport
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.stage import Rehearsed
    from schema_migrator.diagnosis.state import Overview, State
    from schema_migrator.releases.source import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """A store's state and target. Servers of `release` need at least `needed`, which may be above the target.

    `files` is the folder with the release's files.

    `unlisted`: see diagnosis.verdict.Verdict. `invalid` and `keyless`: see catalog.facts.Facts. `elsewhere`: other
    schemas that contain tables of the store, if search_path does not name the right one. `standby`: how far a standby
    has replayed. `rehearsed`: the other server on which the store was rehearsed, None if none was needed.
    """

    store: Store
    database: str
    target: Version
    needed: Version
    release: str
    state: State
    unlisted: tuple[Version, ...] = ()
    whose: Ownership = UNSEEN
    rewrites: tuple[RunningRewrite, ...] = ()
    invalid: tuple[str, ...] = ()
    keyless: tuple[str, ...] = ()
    elsewhere: str = ""
    files: str = ""
    servers: ServerSupport | None = None
    standby: Standby | None = None
    rehearsed: Rehearsed | None = None

    @property
    def too_old_for_servers(self) -> bool:
        """Whether the store has reached its target, but servers of the release would not start on it."""
        return isinstance(self.state, At) and self.target <= self.state.version < self.needed

    @property
    def up_to_date(self) -> bool:
        """Whether the version is at least the target and what servers need, and no index or key is known to be bad."""
        reached = isinstance(self.state, At) and self.state.version >= max(self.target, self.needed)
        return reached and not self.invalid and not self.keyless

    def rewrite_of(self, leftover: Leftover) -> RunningRewrite | None:
        """Return the unfinished rewrite in one of our schemas, None if there is none, or if it is gone by now."""
        return next((rewrite for rewrite in self.rewrites if rewrite.leftover == leftover), None)


def status(
    settings: Settings, interrupt: Interrupt, running: str | None = None, embedded: EmbeddedServer | None = None
) -> tuple[StoreStatus, ...]:
    """Return the status of every store. `running` is the version of the servers, if a frontend has reported it.

    `embedded` starts the embedded PostgreSQL, if rehearsals are to run on it.
    """

    def found(task: StoreTask, overview: Overview) -> StoreStatus:
        seen = _status(task, overview)
        return replace(seen, servers=server_support.look(task, overview, _after(seen), running))

    with (
        rehearsal_servers.opened(settings, interrupt, embedded) as stages,
        tasks(settings, interrupt, accepted=settings.accepted, stages=stages) as by_store,
    ):
        overviews = looks(by_store)
        return tuple(each(by_store, lambda task: found(task, overviews[task.store.store])).values())


def _after(found: StoreStatus) -> Version | None:
    """Return the version that a migration leads to, None if it would be refused."""
    match found.state:
        case Unknown():
            return None
        case Absent():
            return None if found.elsewhere else found.target
        case At() | Between() | Unrecorded():
            return max(found.target, found.state.version or found.target)
        case _:
            assert_never(found.state)


def describe(settings: Settings, interrupt: Interrupt) -> dict[Store, Version | None]:
    """Return the recorded version of every store, without an examination."""
    with tasks(settings, interrupt) as by_store:
        return {store: overview.recorded for store, overview in looks(by_store).items()}


def _status(task: StoreTask, overview: Overview) -> StoreStatus:
    """Return a store's status, from a newer overview if the store moves: what seems half-applied may be in progress."""
    return steadily(task, overview, look, lambda status: not examine.at_rest(status.state))


def look(task: StoreTask, overview: Overview) -> StoreStatus:
    """Return a store's status, given its overview."""
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
        rewrites=running(task, overview),
        invalid=() if reached is None or reached > task.target else tuple(overview.facts.invalid),
        keyless=() if reached is None else tuple(overview.facts.keyless),
        elsewhere=notices.elsewhere(overview),
        files=str(task.place.release.folder.absolute()),
        standby=overview.standby,
        rehearsed=task.place.stage.seen if task.place.stage else None,
    )


def _examined(task: StoreTask, overview: Overview) -> examine.Examination:
    """Return a store's examination. If the server refuses a rehearsal, as in a DDL freeze, the version row counts."""
    try:
        return examine.examine(task.place, overview, task.target)
    except (psycopg.errors.RaiseException, StatementFailed, PreflightFailed) as error:
        reason = error.diag.message_primary if isinstance(error, psycopg.Error) else error.message
        events.logger().warning("rehearsal.refused", reason=reason, shown="the recorded version, without a comparison")
        return examine.Examination(overview=overview)

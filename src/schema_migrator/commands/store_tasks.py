"""One task per store: its settings, connection and target. The tasks run in parallel.

What a task does is in the commands' own modules.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from schema_migrator.catalog.owners import search_path
from schema_migrator.concurrency import Interrupt, run_parallel
from schema_migrator.config import selection
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.acceptance import Acceptance
from schema_migrator.diagnosis.examine import StoreHandle
from schema_migrator.diagnosis.verdict import Subject
from schema_migrator.errors import MigratorError, SharedDatabase, TargetError
from schema_migrator.postgres import connection, lock_retries, server_errors
from schema_migrator.runs import advisory_lock
from schema_migrator.runs.context import RunContext

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.commands.rehearsal_servers import Stages
    from schema_migrator.config.accepted import AcceptedDifference
    from schema_migrator.config.settings import Settings, StoreSettings
    from schema_migrator.diagnosis.stage import Stage
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Release, Store

T = TypeVar("T")

_RECORDS = frozenset({"schema_version", "schema_update_history"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTask:
    """One store with its connection, its settings and its target."""

    place: StoreHandle
    settings: Settings
    target: Version
    interrupt: Interrupt

    @property
    def store(self) -> StoreSettings:
        """The store's settings."""
        return self.place.store

    @property
    def needed(self) -> Version:
        """The version that servers need: at least the release's latest, or the target if older targets are allowed."""
        return self.target if self.settings.run.allow_older_targets else max(self.target, self.place.source.latest)

    @property
    def subject(self) -> Subject:
        """The store as what a verdict is about."""
        place = self.place
        return Subject(
            source=place.source, database=self.store.database, target=self.target, acceptance=place.acceptance
        )


@contextmanager
def tasks(
    settings: Settings,
    interrupt: Interrupt,
    *,
    began: float | None = None,
    changing: bool = False,
    accepted: Sequence[AcceptedDifference] = (),
    stages: Stages = lambda _: None,
) -> Iterator[dict[Store, StoreTask]]:
    """Read the files, then connect to every store; yield a task per store. `began`: see connection.connect.

    Raises InputError before anything is contacted. With `changing`, that includes a target below what servers of the
    release need. `accepted`: the accepted differences of all stores. `stages`: other servers for rehearsals; a store
    that has one is only read.
    """
    release = settings.release
    targets = {store.store: release.source(store.store).target(store.target_version) for store in settings.stores}
    if changing and not settings.run.allow_older_targets:
        _refuse_older(release, targets)
    connect = partial(connection.connect, interrupt=interrupt, patience=settings.run.wait_timeout, began=began)
    with ExitStack() as stack:

        def opened(store: Store) -> Connection:
            conn = connect(settings.store(store))
            stack.callback(conn.close)  # also if another store's connection fails
            return conn

        conns = run_parallel(tuple(targets), interrupt, opened)
        yield {
            store.store: StoreTask(
                place=replace(
                    _place(settings, store, release, conns[store.store]),
                    acceptance=_acceptance(store.store, accepted),
                    stage=_stage(store.store, conns[store.store], stages),
                ),
                settings=settings,
                target=targets[store.store],
                interrupt=interrupt,
            )
            for store in settings.stores
        }


def _stage(store: Store, conn: Connection, stages: Stages) -> Stage | None:
    """Return the stage of a store, on whose own connection the server then refuses to write."""
    stage = stages(store)
    if stage is not None:
        conn.read_only = True
    return stage


def _refuse_older(release: Release, targets: dict[Store, Version]) -> None:
    """Raise TargetError if a server of the release would refuse to start on a store's target."""
    older = [(store, target) for store, target in targets.items() if target < release.source(store).latest]
    if older:
        names = selection.listed([f"{store.prefix}_TARGET_VERSION is {target}" for store, target in older])
        needed = selection.listed([str(release.source(store).latest) for store, _ in older])
        raise TargetError(
            f"{names}, but servers of release {release.version} need {needed} and will not start on less",
            hint="unset it, or set TEMPORAL_VERSION to the version of the servers; if that version needs no more, set"
            " SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS=true too",
        )


def _acceptance(store: Store, accepted: Sequence[AcceptedDifference]) -> Acceptance:
    own = tuple(entry for entry in accepted if entry.store is store)
    return Acceptance(entries=own, today=datetime.now(UTC).date())


def _place(settings: Settings, store: StoreSettings, release: Release, conn: Connection) -> StoreHandle:
    path = search_path(store.attributes.get("search_path", ""))
    return StoreHandle(conn=conn, store=store, release=release, library=settings.library, path=path)


def each(those: dict[Store, StoreTask], work: Callable[[StoreTask], T]) -> dict[Store, T]:
    """Do the work for every store in parallel; return the results by store."""
    interrupt = next(iter(those.values())).interrupt
    return run_parallel(tuple(those), interrupt, lambda store: _guarded(those[store], work))


def _guarded(task: StoreTask, work: Callable[[StoreTask], T]) -> T:
    """Do one store's work, with the store's name in its events and errors."""
    import structlog  # noqa: PLC0415 - logs loads it late

    with (
        structlog.contextvars.bound_contextvars(store=str(task.store.store)),
        server_errors.translated(task.store, task.interrupt),
    ):
        try:
            return work(task)
        except MigratorError as error:
            error.store = error.store or str(task.store.store)
            raise


def patiently(task: StoreTask, look: Callable[[], T], *, seconds: float | None = None) -> T:
    """Return what `look` returns, retried while another session keeps a table of the store locked.

    The deadline is `seconds`, or --wait-timeout.
    """

    def attempt(_: float | None) -> T:
        with server_errors.translated(task.store, task.interrupt):
            return look()

    limit = task.settings.run.wait_timeout if seconds is None else seconds
    tables = sorted(task.place.source.tables | _RECORDS)
    return lock_retries.retried(task.place.conn, task.interrupt, tables, attempt, seconds=limit)


def looks(those: dict[Store, StoreTask], *, seconds: float | None = None) -> dict[Store, Overview]:
    """Return an overview of every store; `seconds`: see `patiently`. Raises SharedDatabase if two share a database."""
    overviews = each(those, lambda task: patiently(task, lambda: examine.look(task.place), seconds=seconds))
    _refuse_shared_database(overviews)
    return overviews


def _refuse_shared_database(overviews: dict[Store, Overview]) -> None:
    pair = selection.sharing({store: overview.facts.identity for store, overview in overviews.items()})
    if pair is not None:
        raise SharedDatabase(
            f"the settings of {selection.named(pair)} lead to the same database, expected a database for each",
            hint=f"set {selection.databases(pair)} to different databases",
        )


def steadily(
    task: StoreTask,
    overview: Overview,
    decide: Callable[[StoreTask, Overview], T],
    doubted: Callable[[T], bool],
) -> T:
    """Return the decision from an overview, or from a newer one if the store was locked or has changed since.

    `doubted`: whether a decision has to be checked for such a change.
    """
    return patiently(task, lambda: examine.examine_steadily(task.place, overview, partial(decide, task), doubted))


@contextmanager
def working(task: StoreTask, between: Callable[[], None] = lambda: None) -> Iterator[RunContext]:
    """Hold the advisory lock, and yield the context of the run; `between` is called while another run holds it."""
    run, name = task.settings.run, secrets.token_hex(4)
    waits = advisory_lock.Waits(
        lock=run.lock_timeout, database=run.wait_timeout, heartbeat=run.heartbeat, between=between
    )
    with advisory_lock.hold(task.store, task.interrupt, run=name, waits=waits) as lock:
        yield _context(task, lock)


def _context(task: StoreTask, held: advisory_lock.Lock) -> RunContext:
    return RunContext(
        conn=task.place.conn,
        release=task.place.release,
        settings=task.settings,
        store=task.store,
        lock=held,
        interrupt=task.interrupt,
    )

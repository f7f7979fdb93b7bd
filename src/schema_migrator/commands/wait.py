"""The command `wait`: waits for what a server, a job or a client needs: databases, their schemas, the frontend."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import tenacity

from schema_migrator import events
from schema_migrator.catalog import owners
from schema_migrator.commands.store_tasks import looks, tasks
from schema_migrator.concurrency import run_parallel
from schema_migrator.diagnosis.state import Absent, At, Unknown
from schema_migrator.errors import (
    MigratorError,
    RetryableError,
    SchemaBehind,
    SettingsError,
    SeveralErrors,
    combine,
    exit_code,
)
from schema_migrator.planning import notices
from schema_migrator.postgres import connection
from schema_migrator.temporal import frontend
from schema_migrator.temporal.credentials import credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from packaging.version import Version

    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.commands.store_tasks import StoreTask
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.client_fields import ClientSettings
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.releases.source import Store

_LINE_EVERY_SECONDS = 15.0


class WaitTarget(StrEnum):
    """What `wait` can wait for."""

    DATABASE = "database"
    SCHEMA = "schema"
    FRONTEND = "frontend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Something that is ready: a database that accepts us, a schema at its version, or the frontend."""

    aim: WaitTarget
    place: str
    store: Store | None = None
    version: Version | None = None
    target: Version | None = None


def wait_targets(words: Iterable[str]) -> tuple[WaitTarget, ...]:
    """Return the targets that the words name; a word may name several, separated by commas. Raises SettingsError."""
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    strange = next((name for name in names if name not in tuple(WaitTarget)), None)
    if strange is not None or not names:
        found = f'--for is "{strange or ""}"'
        raise SettingsError(f"{found}, expected one or more of {', '.join(WaitTarget)}")
    return tuple(aim for aim in WaitTarget if aim in names)


def wait(
    settings: Settings, client: ClientSettings, interrupt: Interrupt, targets: tuple[WaitTarget, ...]
) -> tuple[Ready, ...]:
    """Return when all targets are ready; they share one deadline.

    Raises DatabaseUnavailable, SchemaBehind or FrontendUnavailable at the deadline, and at once an error that waiting
    does not cure.
    """
    began = time.monotonic()
    shown = credentials(client) if WaitTarget.FRONTEND in targets else None
    ready: tuple[Ready, ...] = ()
    if WaitTarget.DATABASE in targets:
        ready += _databases(settings, interrupt, began)
    if WaitTarget.SCHEMA in targets:
        ready += _schemas(settings, interrupt, began)
    if shown is not None:
        reached = frontend.reach(shown, patience=settings.run.wait_timeout, began=began)
        ready += (Ready(aim=WaitTarget.FRONTEND, place=frontend.run(reached, interrupt).address),)
    return ready


def _databases(settings: Settings, interrupt: Interrupt, began: float) -> tuple[Ready, ...]:
    patience = settings.run.wait_timeout

    def reach(store: Store) -> Ready:
        wanted = settings.store(store)
        connection.connect(wanted, interrupt, patience=patience, began=began).close()
        return Ready(aim=WaitTarget.DATABASE, store=store, place=wanted.address)

    return tuple(run_parallel(tuple(store.store for store in settings.stores), interrupt, reach).values())


def _schemas(settings: Settings, interrupt: Interrupt, began: float) -> tuple[Ready, ...]:
    """Poll the schemas, each time on new connections: a server that fails over leaves dead connections behind."""
    deadline = began + settings.run.wait_timeout
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_worth_waiting),
        stop=lambda _: time.monotonic() >= deadline or interrupt.event.is_set(),
        wait=tenacity.wait_exponential(multiplier=0.2, max=2) + tenacity.wait_random(0, 0.3),
        sleep=tenacity.sleep_using_event(interrupt.event),
        before_sleep=_now_and_then(),
        reraise=True,
    )
    try:
        return retrying(lambda: _look_once(settings, interrupt, began))
    except MigratorError:
        interrupt.check()
        raise


def _look_once(settings: Settings, interrupt: Interrupt, began: float) -> tuple[Ready, ...]:
    with tasks(settings, interrupt, began=began) as by_store:
        overviews = looks(by_store, seconds=0)  # the polling retries anyway
    behind = [reason for reason in (_behind(task, overviews[store]) for store, task in by_store.items()) if reason]
    if behind:
        raise combine(behind)
    return tuple(_ready(task, overviews[store]) for store, task in by_store.items())


def _behind(task: StoreTask, overview: Overview) -> MigratorError | None:
    """Return what the schema lacks, None if a server would start on it: a server needs at least its version."""
    state = overview.state
    if isinstance(state, At) and state.version >= task.needed:
        return _unreadable(task, overview.whose)
    found = "no version is recorded" if overview.recorded is None else f"version {overview.recorded} is recorded"
    if isinstance(state, Absent) and (places := notices.elsewhere(overview)):
        found += f' in the schema "{overview.facts.schema}", but tables of the store are in the schema {places}'
    return SchemaBehind(
        f"the schema at {task.store.address} is not at {task.needed} or above: "
        f"{state.reason if isinstance(state, Unknown) else found}",
        hint=f"waited {task.settings.run.wait_timeout:g} s for schema-migrator migrate to be run{_pinned(task)}",
        store=task.store.store,
    )


def _pinned(task: StoreTask) -> str:
    """Return the remark that a migration to the target would not be enough; empty if it would."""
    if task.target == task.needed:
        return ""
    return (
        f"; {task.store.store.prefix}_TARGET_VERSION is {task.target}, below what servers of release"
        f" {task.place.release.version} need"
    )


def _unreadable(task: StoreTask, whose: Ownership) -> MigratorError | None:
    """Return the error for tables that the waiting role, mostly a server's, may not read; None if it may read all."""
    if not whose.unreadable:
        return None
    (grant,) = owners.grants(whose.schema, [(whose.role, "SELECT", whose.unreadable)])
    return SchemaBehind(
        f'the role "{whose.role}" may not read {len(whose.unreadable)} tables of the schema at {task.store.address}: '
        f"{', '.join(whose.unreadable)}",
        hint=f"waited {task.settings.run.wait_timeout:g} s for their owner to run the following, plus the write"
        f" privileges that a server needs: {grant}",
        store=task.store.store,
    )


def _ready(task: StoreTask, overview: Overview) -> Ready:
    return Ready(
        aim=WaitTarget.SCHEMA,
        store=task.store.store,
        place=task.store.address,
        version=overview.recorded,
        target=task.needed,
    )


def _is_worth_waiting(error: BaseException) -> bool:
    return isinstance(error, MigratorError) and exit_code(error) == RetryableError.exit_code


def _now_and_then() -> Callable[[tenacity.RetryCallState], None]:
    """Return a callback that logs the reason when it changes, otherwise every fifteen seconds."""
    last: list[tuple[str, float]] = [("", 0.0)]

    def log(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        parts = error.parts if isinstance(error, SeveralErrors) else (error,)
        reason = "; ".join(part.message for part in parts if isinstance(part, MigratorError))
        now = time.monotonic()
        if reason != last[0][0] or now - last[0][1] >= _LINE_EVERY_SECONDS:
            last[0] = reason, now
            events.logger().warning("schema.waiting", seconds=round(state.seconds_since_start or 0), reason=reason)

    return log

"""The command `plan`: what `migrate` would do, what it would cost, and why it would refuse. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from schema_migrator.catalog import leftovers
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.commands import drift, rehearsal_servers, server_support
from schema_migrator.commands.planning import forecasted, measured, planned, role_lacks
from schema_migrator.commands.store_tasks import StoreTask, each, looks, tasks
from schema_migrator.errors import MigratorError
from schema_migrator.estimation import extrapolation
from schema_migrator.online import change_log, prechecks, source_table
from schema_migrator.planning import notices
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.catalog.standby import Standby
    from schema_migrator.commands.rehearsal_servers import EmbeddedServer
    from schema_migrator.commands.server_support import ServerSupport
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.fields import RunSettings
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.examine import Examination
    from schema_migrator.diagnosis.prediction import Problem
    from schema_migrator.diagnosis.stage import Rehearsed
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.estimation.model import Forecast
    from schema_migrator.online.prechecks import ServerConditions
    from schema_migrator.planning.notices import Notice
    from schema_migrator.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPreview:
    """What `migrate` would do to one store, what it would cost, and its `refusal`, empty if it would not refuse.

    `begun`: the rewrites that earlier runs left unfinished. `obstacle`: why an online rewrite could not start or resume
    now; empty if it could. `found`: the settings of the rewrite's checks and the conditions that they see on the
    server; None if there is no online rewrite or the server could not be asked. `standby`: how far a standby has
    replayed. `rehearsed`: the other server on which the store was rehearsed. `role_lacks`: what a role that only looks
    would need for the plan.
    """

    plan: Plan
    forecast: Forecast
    refusal: str = ""
    begun: tuple[BegunRewrite, ...] = ()
    obstacle: str = ""
    found: tuple[RunSettings, ServerConditions] | None = None
    whose: Ownership = UNSEEN
    notices: tuple[Notice, ...] = ()
    servers: ServerSupport | None = None
    standby: Standby | None = None
    rehearsed: Rehearsed | None = None
    role_lacks: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunRewrite:
    """An unfinished online rewrite, the number of rows that it has copied, and whether the plan resumes it.

    Both are None if our role may not read the rewrite's schema.
    """

    leftover: Leftover
    copied: int | None
    continues: bool | None


def show_plan(
    settings: Settings, interrupt: Interrupt, running: str | None = None, embedded: EmbeddedServer | None = None
) -> tuple[PlanPreview, ...]:
    """Return what `migrate` would do to every store, and what it would cost; nothing is changed.

    `running` is the version of the servers, if a frontend has reported it. `embedded` starts the embedded PostgreSQL,
    if rehearsals are to run on it.
    """
    with (
        rehearsal_servers.opened(settings, interrupt, embedded) as stages,
        tasks(settings, interrupt, changing=True, accepted=settings.accepted, stages=stages) as by_store,
    ):
        overviews = looks(by_store)
        return tuple(each(by_store, lambda task: _of_store(task, overviews[task.store.store], running)).values())


def _of_store(task: StoreTask, overview: Overview, running: str | None) -> PlanPreview:
    found, made = planned(task, overview)
    drift.check(task, found)
    after = max(made.target, made.version or made.target)
    return replace(preview(task, found, made), servers=server_support.look(task, overview, after, running))


def preview(task: StoreTask, found: Examination, made: Plan) -> PlanPreview:
    """Return the preview of a checked plan. Measuring its cost takes some seconds."""
    forecast, limit = measured(task, found, made), task.settings.run.max_lock_seconds
    made = forecasted(made, forecast)
    begun = tuple(_begun(task, made, leftover) for leftover in made.leftovers if leftover.unfinished)
    seen, obstacle = _circumstances(task, made, continues=any(bool(rewrite.continues) for rewrite in begun))
    task.interrupt.check()  # a signal may have interrupted a query whose result then counts as unknown
    return PlanPreview(
        plan=made,
        forecast=forecast,
        refusal=extrapolation.refusal(made, forecast, limit) if limit else "",
        begun=begun,
        obstacle=obstacle,
        found=seen,
        whose=found.overview.whose,
        notices=notices.ahead(made, found.overview.whose),
        standby=found.overview.standby,
        rehearsed=task.place.stage.seen if task.place.stage else None,
        role_lacks=role_lacks(task, found, made),
    )


def _begun(task: StoreTask, made: Plan, leftover: Leftover) -> BegunRewrite:
    conn, shape = task.place.conn, made.online.shape if made.online else None
    try:
        with transactions.look(conn, made.schema):
            live = source_table.look(conn, made.schema, shape) if shape else None
            continues = live is not None and change_log.continues(conn, live, leftover)
            return BegunRewrite(leftover=leftover, copied=leftovers.copied(conn, leftover), continues=continues)
    except psycopg.errors.InsufficientPrivilege:  # the schema is closed to all roles but the migrating one
        return BegunRewrite(leftover=leftover, copied=None, continues=None)


def _circumstances(
    task: StoreTask, made: Plan, *, continues: bool
) -> tuple[tuple[RunSettings, ServerConditions] | None, str]:
    """Return the settings and conditions of the checks, and why the plan's online rewrite could not start or resume.

    A role that only looks checks nothing: it sees less than the migrating one, or another server.
    """
    if made.online is None or made.online.shape is None or task.place.stage is not None:
        return None, ""
    run = task.settings.run
    try:
        found = prechecks.look(task.place.conn, run)
    except MigratorError as error:
        task.interrupt.check()
        return None, str(error)
    try:
        if continues:
            prechecks.judge_sight(made.online, run, found, begun=True)
        else:
            prechecks.judge(made.online, run, found)
    except MigratorError as error:
        task.interrupt.check()
        return (run, found), str(error)
    return (run, found), ""

"""The command `plan`: what `migrate` would do, what that costs, and what refuses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.catalog import leftovers
from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.commands import drift
from schema_migrator.commands.planning import forecasted, measured, planned
from schema_migrator.commands.store_tasks import StoreTask, each, looks, tasks
from schema_migrator.errors import MigratorError
from schema_migrator.estimation import extrapolation
from schema_migrator.online import change_log, prechecks, source_table
from schema_migrator.planning import notices
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.fields import RunSettings
    from schema_migrator.config.settings import Settings
    from schema_migrator.diagnosis.examine import Examination
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.estimation.model import Forecast
    from schema_migrator.online.prechecks import ServerConditions
    from schema_migrator.planning.notices import Notice
    from schema_migrator.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPreview:
    """What `migrate` would do to one store, what that costs, and why it refuses (empty: it does not).

    `begun` are the rewrites that earlier runs have left unfinished; `obstacle` is what keeps an online one from
    beginning just now, or from going on (empty: nothing); `found`: what its checks see on the server, and under what
    settings (None: there is no online rewrite, or the server could not be asked).
    """

    plan: Plan
    forecast: Forecast
    refusal: str = ""
    begun: tuple[BegunRewrite, ...] = ()
    obstacle: str = ""
    found: tuple[RunSettings, ServerConditions] | None = None
    whose: Ownership = UNSEEN
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunRewrite:
    """An unfinished online rewrite with the rows that it has copied, and whether it is carried on with."""

    leftover: Leftover
    copied: int
    continues: bool


def show_plan(settings: Settings, interrupt: Interrupt) -> tuple[PlanPreview, ...]:
    """Return what `migrate` would do, and what that takes; nothing is changed."""
    with tasks(settings, interrupt, changing=True) as those:
        sights = looks(those)
        return tuple(each(those, lambda task: _of_store(task, sights[task.store.store])).values())


def _of_store(task: StoreTask, overview: Overview) -> PlanPreview:
    found, made = planned(task, overview)
    drift.check(task, found)
    return preview(task, found, made)


def preview(task: StoreTask, found: Examination, made: Plan) -> PlanPreview:
    """Measure what a checked plan costs; some seconds."""
    forecast, limit = measured(task, found, made), task.settings.run.max_lock_seconds
    made = forecasted(made, forecast)
    begun = tuple(_begun(task, made, one) for one in made.leftovers if one.unfinished)
    seen, obstacle = _circumstances(task, made, continues=any(one.continues for one in begun))
    task.interrupt.check()  # what a signal broke off may count as unknown until here
    return PlanPreview(
        plan=made,
        forecast=forecast,
        refusal=extrapolation.refusal(made, forecast, limit) if limit else "",
        begun=begun,
        obstacle=obstacle,
        found=seen,
        whose=found.overview.whose,
        notices=notices.ahead(made, found.overview.whose),
    )


def _begun(task: StoreTask, made: Plan, one: Leftover) -> BegunRewrite:
    conn, shape = task.place.conn, made.online.shape if made.online else None
    with transactions.look(conn, made.schema):
        live = source_table.look(conn, made.schema, shape) if shape else None
        continues = live is not None and change_log.continues(conn, live, one)
        return BegunRewrite(leftover=one, copied=leftovers.copied(conn, one), continues=continues)


def _circumstances(
    task: StoreTask, made: Plan, *, continues: bool
) -> tuple[tuple[RunSettings, ServerConditions] | None, str]:
    """Return what the checks see, and what would keep the plan's online rewrite from beginning now, or going on."""
    if made.online is None or made.online.shape is None:
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

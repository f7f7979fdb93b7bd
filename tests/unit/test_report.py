"""Reports as they look, compared with files; SCHEMA_MIGRATOR_TEST_WRITE=1 writes the files anew."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from packaging.version import Version

from schema_migrator.catalog.leftovers import Leftover
from schema_migrator.catalog.snapshot import Change, Difference, Key, Snapshot
from schema_migrator.catalog.standby import Standby
from schema_migrator.commands.migrate import Migration
from schema_migrator.commands.preview import BegunRewrite, PlanPreview
from schema_migrator.commands.server_support import ServerSupport
from schema_migrator.commands.status import StoreStatus
from schema_migrator.config.accepted import Accept, AcceptedDifference
from schema_migrator.config.fields import RunSettings
from schema_migrator.diagnosis.acceptance import AcceptedChange, UnusedEntry
from schema_migrator.diagnosis.prediction import Problem
from schema_migrator.diagnosis.stage import Rehearsed
from schema_migrator.diagnosis.state import Absent, Between, State, Unknown, Unrecorded
from schema_migrator.diagnosis.verdict import Verdict
from schema_migrator.estimation.model import (
    BRIEF,
    BlockingTransaction,
    Estimate,
    Forecast,
    StepEstimate,
    TableSize,
)
from schema_migrator.execution.native import Outcome
from schema_migrator.online.archive import Archive
from schema_migrator.online.disk import Free
from schema_migrator.online.prechecks import ServerConditions
from schema_migrator.online.replicas import Replica, Replicas, Slot
from schema_migrator.planning.plan import Online, Plan, PlanOptions, TableLock
from schema_migrator.planning.rewrite_span import TargetShape
from schema_migrator.releases.servers import Startable
from schema_migrator.releases.source import Release, Store
from schema_migrator.reports import plan_report, report, status_report
from schema_migrator.reports.layout import Report, Table, Verbatim, rendered
from schema_migrator.terminal import Screen
from support.program.factories import at, planned, release

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "reports"
TABLE = "executions_visibility"
NOTHING = Snapshot(objects={})
SHAPE = TargetShape(
    table=TABLE, gone=(), added=(), indexes=(), checks=(), touched=frozenset(), start=NOTHING, end=NOTHING
)
SERVER = ServerConditions(
    role="temporal",
    sees_all=False,
    replicas=Replicas(
        seen=(
            Replica(name="standby1", slot="standby1", pid=20, behind=12 * 1024**2, logical=True),
            Replica(name="standby2", slot="of_2", pid=21, behind=0),
            Replica(name="walreceiver", slot=None, pid=22, behind=None),
        ),
        slots=(
            Slot(name="old", kept=3 * 1024**3, idle=True),
            Slot(name="standby1", kept=12 * 1024**2, idle=False, left=5 * 1024**3, limit=8 * 1024**3),
        ),
        left_out=("late",),
        unmatched=("standy3",),
    ),
    archive=Archive(failed="000000010000000000000042", seconds=90, behind=32 * 1024**2),
    hidden=(("temporal_server", 12), ("bi", 1)),
    free=Free(data=90 * 1024**3, wal=1024**3),
)
STANDBY = Standby(
    replayed="0/5000148", received="0/5400148", behind=4 * 1024**2, seconds=12.25, receiving=True, paused=False
)
ELSEWHERE = Rehearsed(
    name="auditor@other:5432/scratch",
    version="18.4",
    differences=("default collation libc C instead of libc en_US.UTF-8", "extension btree_gin 1.4 instead of 1.3"),
)
STATES: dict[str, State] = {
    "absent": Absent(),
    "behind": at("1.3"),
    "at_target": at("1.9"),
    "ahead": at("1.14"),
    "between": Between(version=Version("1.2"), step=Version("1.3"), total=11, remaining=(9, 10)),
    "confirmed": Unrecorded(version=Version("1.9"), recorded=None, confirmed=True),
    "unrecorded": Unrecorded(version=Version("1.9"), recorded=Version("0.0"), confirmed=False),
    "unknown": Unknown(reason='schema_version records "x", at least "y"', hint="find out who wrote that row"),
}


SUPPORT = ServerSupport(
    startable=Startable(now="1.24.0", after="1.29", newest_now="1.24.0", newest_after="1.29.7"),
    alive={"frontend": 2, "history": 1},
    running="1.24.0",
)


def status(name: str, state: State) -> StoreStatus:
    """Return the status of a database of that name."""
    target = Version("1.9")
    return StoreStatus(
        store=Store.VISIBILITY, database=name, target=target, needed=target, release="1.29.1", state=state
    )


def statuses() -> list[StoreStatus]:
    """Return one of every state, and two that are at their target and lack something."""
    paused = replace(STANDBY, received=None, behind=None, seconds=None, receiving=False, paused=True)
    whole = replace(status("invalid", STATES["at_target"]), files="/schema/1.29.1", standby=paused)
    broken = [
        replace(whole, invalid=("by_status",), servers=SUPPORT),
        replace(whole, database="keyless", keyless=(TABLE,)),
    ]
    return [*(status(name, state) for name, state in STATES.items()), *broken]


def placed(version: str) -> Release:
    """Return a release in a folder that is the same on every machine."""
    return release(version).named(version, Path("/releases", version))


def seen(plan: Plan) -> PlanPreview:
    """Return a plan of which no more is known."""
    steps = {step.step.version: StepEstimate(seconds=BRIEF, locked=BRIEF, disk=0) for step in plan.steps}
    return PlanPreview(plan=plan, forecast=Forecast(steps=steps))


def upgrade() -> PlanPreview:
    """Return a plan with one of everything that a step can have, and an outlook of that kind."""
    plan = planned(at("1.5"))
    locks = (
        TableLock(table=TABLE, mode="ACCESS EXCLUSIVE", size=5 * 1024**3),
        TableLock(table="t", mode="SHARE", size=0),
    )
    first, second, third, fourth = plan.steps
    steps = (
        replace(first, locks=locks, rewrites=(TABLE,)),
        replace(second, locks=locks[1:], concurrently=True),
        replace(third, locks=locks[:1], rewrites=(TABLE,), online=True),
        fourth,
    )
    online = Online(table=TABLE, size=5 * 1024**3, rewrites=3, versions=(third.step.version,), shape=SHAPE)
    costs = (
        Estimate(likely=100, low=50, high=200),
        Estimate(likely=4, low=2, high=8),
        Estimate(likely=1200, low=600, high=2400),
    )
    forecast = Forecast(
        sizes=(TableSize(table=TABLE, heap=1024**3, toast=8192, indexes=4 * 1024**3, rows=1_000_000),),
        holders=(
            BlockingTransaction(table=TABLE, mode="RowExclusiveLock", pid=7, who="temporal-history", seconds=340.2),
            BlockingTransaction(table=TABLE, mode="AccessShareLock", pid=8, who="", seconds=None),
            BlockingTransaction(table=TABLE, mode="AccessShareLock", pid=9, who="young", seconds=0.2),
            BlockingTransaction(table="t", mode="AccessShareLock", pid=10, who="reader", seconds=99),
            BlockingTransaction(table="t", mode="RowExclusiveLock", pid=None, who="a transfer", seconds=4000),
        ),
        steps={
            first.step.version: StepEstimate(seconds=costs[0], locked=costs[0], disk=5 * 1024**3),
            second.step.version: StepEstimate(seconds=costs[2], locked=costs[1], disk=40 * 1024**2),
        },
        online=StepEstimate(seconds=costs[2], locked=BRIEF, disk=3 * 1024**3),
        unmeasured={fourth.step.version: "permission denied for table executions_visibility"},
        sampled={TABLE: 2000},
        written=3 * 1024 * 1024,
        spent=2.34,
        left_out=("by_words",),
    )
    refusal = "step 1.6 would lock executions_visibility and t for about 100 s, the limit is 10 s"
    begun = (BegunRewrite(leftover=leftover("online_7"), copied=420_000, continues=True),)
    return PlanPreview(
        plan=replace(plan, steps=steps, online=online, leftovers=(leftover("retired_5", kept=True),)),
        forecast=forecast,
        refusal=refusal,
        begun=begun,
        obstacle="a transaction is 900 s old",
        found=(RunSettings.model_validate({"SCHEMA_MIGRATOR_MAX_LOAD": "20"}), SERVER),
        servers=SUPPORT,
    )


def hindered() -> PlanPreview:
    """Return a plan with a rewrite that cannot be online, and what another run has left of one."""
    plan = planned(at("1.7"))
    versions = tuple(step.step.version for step in plan.steps)
    why = ('trigger "own"', "row level security")
    online = Online(table=TABLE, size=5 * 1024**3, rewrites=1, versions=versions, blockers=why)
    begun = (
        BegunRewrite(leftover=leftover("online_7"), copied=0, continues=False),
        BegunRewrite(leftover=leftover("online_8"), copied=None, continues=None),
    )
    undoes = ("step 1.8 drops the index t.i, whose definition is accepted: smaller",)
    lacks = (Problem(found="it does not own one table of the schema: t", remedy="run as the owner", of_role=True),)
    shown = replace(seen(replace(plan, online=online, undoes=undoes)), begun=begun, role_lacks=lacks)
    return replace(shown, rehearsed=replace(ELSEWHERE, differences=()), standby=STANDBY)


def declined() -> PlanPreview:
    """Return a plan with a rewrite of a table that is too small to be written anew online."""
    plan = planned(at("1.8"))
    versions = tuple(step.step.version for step in plan.steps)
    online = Online(table=TABLE, size=10, rewrites=2, versions=versions, declined="its 0 MB are less than 64 MB")
    return seen(replace(plan, online=online))


def leftover(name: str, *, kept: bool = False) -> Leftover:
    """Return what an online rewrite has left."""
    return Leftover(
        name=f"schema_migrator_{name}",
        oid=7,
        schema="public",
        table=TABLE,
        target="1.8",
        fingerprint="",
        kept=kept,
        finished=kept,
    )


def verdict() -> Verdict:
    """Return a verdict with one of each kind of difference."""
    build = "CREATE INDEX by_status ON executions_visibility (status)"
    index, column, extra = (
        Key("index", "executions_visibility", "by_status"),
        Key("column", "executions_visibility", "memo"),
        Key("table", "", "my_own"),
    )
    other, note = Key("index", TABLE, "by_task_queue"), Key("column", TABLE, "note")
    return Verdict(
        store=Store.VISIBILITY,
        database="temporal_visibility",
        schema="public",
        version=Version("1.9"),
        target=Version("1.9"),
        difference=Difference(
            missing=(Change(key=index, expected=build, found=None),),
            different=(Change(key=column, expected="bytea", found="text"),),
            extra=(Change(key=extra, expected=None, found="r p"),),
        ),
        unlisted=(Version("1.4"),),
        accepted=(
            AcceptedChange(change=Change(key=other, expected=build, found=None), entry=accepted(other, None)),
            AcceptedChange(
                change=Change(key=note, expected="text", found="text\nNOT NULL"),
                entry=accepted(note, "text\nNOT NULL", until=date(2027, 6, 30)),
            ),
        ),
        unused=(UnusedEntry(entry=accepted(index, None), why="it applied until 2026-01-31", expired=True),),
        standby=STANDBY,
        rehearsed=ELSEWHERE,
    )


def accepted(key: Key, definition: str | None, until: date | None = None) -> AcceptedDifference:
    """Return an entry of the accepted differences."""
    return AcceptedDifference(
        store=Store.VISIBILITY,
        object=str(key),
        accept=Accept.DIFFERENT if definition else Accept.MISSING,
        reason="temporal#10145",
        definition=definition,
        until=until,
    )


def migrations() -> tuple[Migration, ...]:
    """Return a run that installed one store, adopted a second and found nothing to do for a third."""
    installed, nothing = planned(Absent()), planned(at("1.9"))
    adopted = planned(Unrecorded(version=Version("1.8"), recorded=None, confirmed=True))
    outcomes = tuple(Outcome(version=step.step.version, seconds=0.25) for step in installed.steps)
    return (
        Migration(plan=installed, outcomes=outcomes, seconds=2.5),
        Migration(plan=adopted, outcomes=outcomes[-1:], seconds=0.25, verdict=verdict()),
        Migration(plan=nothing),
        Migration(plan=nothing, seconds=1.5, rebuilt=("by_status",)),
    )


REPORTS: dict[str, Callable[[], Report]] = {
    "status": lambda: status_report.status_text(tuple(statuses())),
    "plan_fresh": lambda: plan_report.plan_text(seen(planned(Absent(), "1.2"))),
    "plan_upgrade": lambda: plan_report.plan_text(upgrade()),
    "plan_hindered": lambda: plan_report.plan_text(hindered()),
    "plan_declined": lambda: plan_report.plan_text(declined()),
    "plan_by_tool": lambda: plan_report.plan_text(seen(planned(Absent(), "1.1", options=PlanOptions(by_tool=True)))),
    "plan_nothing": lambda: plan_report.plan_text(seen(planned(at("1.9")))),
    "plan_adopt": lambda: plan_report.plan_text(
        seen(planned(Unrecorded(version=Version("1.8"), recorded=None, confirmed=True)))
    ),
    "migration": lambda: report.migration_text(migrations()),
    "verify": lambda: report.verify_text(verdict()),
    "releases": lambda: report.releases_text((placed("1.29.1"), placed("1.32.2"))),
}
JSON: dict[str, Callable[[], str]] = {
    "status_json": lambda: report.to_json(map(status_report.status_json, statuses())),
    "plan_json": lambda: report.to_json([plan_report.plan_json(upgrade())]),
    "migration_json": lambda: report.to_json(map(report.migration_json, migrations())),
    "verify_json": lambda: report.to_json([report.verify_json(verdict())]),
    "releases_json": lambda: report.releases_json((placed("1.29.1"), placed("1.32.2"))),
}
TEXTS = {name: partial(lambda make: rendered(make(), Screen()), make) for name, make in REPORTS.items()} | JSON


@pytest.mark.parametrize("name", TEXTS)
def test_reports(name: str) -> None:
    """Each report is exactly as its file; JSON can be read back."""
    text = TEXTS[name]()
    path = GOLDEN / f"{name}.{'json' if name.endswith('_json') else 'txt'}"
    if os.environ.get("SCHEMA_MIGRATOR_TEST_WRITE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    assert f"{text}\n" == path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        json.loads(text)


def long_names() -> dict[str, Report]:
    """Return reports of a database and a table with names as long as PostgreSQL keeps them."""
    database, one = "d" * 63, upgrade()
    steps = tuple(replace(step, rewrites=("t" * 63,) * bool(step.rewrites)) for step in one.plan.steps)
    renamed = replace(one, plan=replace(one.plan, database=database, steps=steps))
    return {
        "status": status_report.status_text(tuple(replace(status, database=database) for status in statuses())),
        "plan": plan_report.plan_text(renamed),
        "migration": report.migration_text(
            tuple(replace(done, plan=replace(done.plan, database=database)) for done in migrations())
        ),
        "verify": report.verify_text(replace(verdict(), database=database)),
    }


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize("name", [*REPORTS, *(f"long {name}" for name in ("status", "plan", "migration", "verify"))])
def test_reports_fit_a_terminal(name: str, columns: int) -> None:
    """No line is wider, but SQL to copy; no word is lost."""
    made = long_names()[name.removeprefix("long ")] if name.startswith("long ") else REPORTS[name]()
    text = rendered(made, Screen(columns=columns, terminal=True))
    sql = {line for piece in made if isinstance(piece, Verbatim) for line in piece.text.splitlines()}
    assert [line for line in text.splitlines() if len(line) > columns and line not in sql] == []
    assert {word for word in rendered(made, Screen(columns=1000)).split() if "─" not in word} <= set(text.split())


@pytest.mark.parametrize("name", REPORTS)
def test_tables_fit_a_pipe(name: str) -> None:
    """Where there is no terminal, tables have 80 columns."""
    tables = tuple(piece for piece in REPORTS[name]() if isinstance(piece, Table))
    assert all(len(line) <= 80 for line in rendered(tables, Screen()).splitlines())


def test_no_file_without_a_report() -> None:
    """What is compared with nothing is removed."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(TEXTS)

"""A plan and its outlook as text for people and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schema_migrator.estimation.extrapolation import CONCURRENT_FACTOR, blocked_by
from schema_migrator.estimation.model import BRIEF
from schema_migrator.planning.notices import notices_json, place_json, place_text
from schema_migrator.planning.plan import ONLINE_BYTES
from schema_migrator.reports.layout import Toned
from schema_migrator.reports.look_report import look_json, look_text
from schema_migrator.reports.plan_table import span_text, steps_table
from schema_migrator.reports.prechecks_report import checks_json, checks_text
from schema_migrator.reports.report import recorded_version, size_text, state_name
from schema_migrator.reports.rewrite_report import copied_text
from schema_migrator.reports.servers_report import servers_json, servers_text
from schema_migrator.terminal import Tone

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.commands.preview import BegunRewrite, PlanPreview
    from schema_migrator.estimation.model import BlockingTransaction, Estimate, Forecast, StepEstimate, TableSize
    from schema_migrator.planning.plan import Online, Plan, PlannedStep
    from schema_migrator.reports.layout import Line, Report


def plan_json(seen: PlanPreview) -> dict[str, Any]:
    """Return a plan as JSON; seconds are numbers, `estimate` is null where `no_estimate_reason` says why."""
    found, forecast = seen.plan, seen.forecast
    return {
        "store": str(found.store),
        "database": found.database,
        **place_json(seen.whose),
        "state": state_name(found.state),
        "version": recorded_version(found.state),
        "target": str(found.target),
        "up_to_date": found.empty,
        "executor": "sql-tool" if found.by_tool else "native",
        "one_transaction": found.together,
        "adopts": str(found.adopt.version) if found.adopt else None,
        "refusal": seen.refusal or None,
        "undoes_accepted": list(found.undoes),
        "steps": [_step(step, forecast) for step in found.steps],
        "online": _online(found.online, seen) if found.online else None,
        "unfinished": [_begun_json(rewrite) for rewrite in seen.begun],
        "kept": [leftover.name for leftover in found.leftovers if leftover.kept],
        "tables": [_size_json(size) for size in forecast.sizes],
        "measured": _measured(forecast) if forecast.sampled else None,
        "blocked_by": [_holder_json(blocker) for blocker in blocked_by(found, forecast)],
        "servers": servers_json(seen.servers) if seen.servers else None,
        **look_json(seen.standby, seen.rehearsed),
        "role_lacks": [{"found": problem.found, "remedy": problem.remedy} for problem in seen.role_lacks],
        "notices": notices_json(seen.notices),
    }


def _step(step: PlannedStep, forecast: Forecast) -> dict[str, Any]:
    version = step.step.version
    return {
        "version": str(version),
        "description": step.step.description,
        "statements": [statement.text for statement in step.statements],
        "locks": [{"table": lock.table, "mode": lock.mode, "bytes": lock.size} for lock in step.locks],
        "rewrites": list(step.rewrites),
        "concurrently": step.concurrently,
        "online": step.online,
        "resumed": step.resumed,
        "estimate": _estimate_json(forecast.steps.get(version)),
        "no_estimate_reason": forecast.unmeasured.get(version),
    }


def _estimate_json(found: StepEstimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "seconds": _span_json(found.seconds),
        "lock_seconds": _span_json(found.locked),
        "disk_bytes": found.disk,
    }


def _span_json(span: Estimate) -> dict[str, float]:
    return {"likely": round(span.likely, 2), "low": round(span.low, 2), "high": round(span.high, 2)}


def _online(found: Online, seen: PlanPreview) -> dict[str, Any]:
    return {
        "table": found.table,
        "bytes": found.size,
        "from_bytes": ONLINE_BYTES,
        "versions": [str(version) for version in found.versions],
        "rewrites_saved": found.rewrites,
        "planned": found.shape is not None,
        "declined": found.declined or None,
        "blockers": list(found.blockers),
        "blocked_now": seen.obstacle or None,
        "checks": checks_json(found, *seen.found) if seen.found else None,
        "estimate": _estimate_json(seen.forecast.online),
    }


def _begun_json(rewrite: BegunRewrite) -> dict[str, Any]:
    left = rewrite.leftover
    return {
        "schema": left.name,
        "table": left.table,
        "target": left.target or None,
        "rows_copied": rewrite.copied,
        "resumes": rewrite.continues,
    }


def _size_json(size: TableSize) -> dict[str, Any]:
    return {
        "table": size.table,
        "rows": size.rows,
        "heap_bytes": size.heap,
        "toast_bytes": size.toast,
        "index_bytes": size.indexes,
    }


def _measured(forecast: Forecast) -> dict[str, Any]:
    return {
        "rows": dict(forecast.sampled),
        "seconds": round(forecast.spent, 2),
        "bytes_written": forecast.written,
        "indexes_left_out": list(forecast.left_out),
    }


def _holder_json(blocker: BlockingTransaction) -> dict[str, Any]:
    return {
        "table": blocker.table,
        "lock": blocker.mode,
        "pid": blocker.pid,
        "prepared_transaction": blocker.who if blocker.pid is None else None,
        "application": blocker.who if blocker.pid is not None else None,
        "seconds": None if blocker.seconds is None else round(blocker.seconds),
    }


def _rebuilding(found: Plan) -> str:
    again = [name for name in found.rebuild if name not in found.dropped]
    parts = [f"builds {', '.join(again)} again"] if again else []
    return " and ".join([*parts, *([f"drops {', '.join(found.dropped)}"] if found.dropped else [])])


def plan_text(seen: PlanPreview) -> Report:
    """Return a plan as a heading, a table of its steps, and notes."""
    found = seen.plan
    support = servers_text(seen.servers) if seen.servers else ()
    if found.empty:
        done = Toned(f"at {found.version}, nothing to do", Tone.GOOD, _place(seen))
        return (done, *support, *_look(seen), *map(str, seen.notices))
    steps = [steps_table(found, seen.forecast), *_notes(seen)] if found.steps else []
    return (_place(seen) + _heading(found), *steps, *support, *_look(seen), *map(str, seen.notices))


def _look(seen: PlanPreview) -> list[str]:
    """Return from where the plan comes, and what keeps the role that looked from migrating."""
    lacks = [f"to migrate, another role or server is needed: {problem.found}" for problem in seen.role_lacks]
    return [*look_text(seen.standby, seen.rehearsed), *lacks]


def _place(seen: PlanPreview) -> str:
    where = f", schema {place_text(seen.whose)}" if seen.whose.schema_owner else ""
    return f'{seen.plan.store} store, database "{seen.plan.database}"{where}: '


def _heading(found: Plan) -> str:
    parts = [_rebuilding(found)] if found.rebuild else []
    parts += [f"records {found.adopt.version}"] if found.adopt else []
    if found.steps:
        alone = "each step by temporal-sql-tool" if found.by_tool else "one transaction per step"
        how = "in one transaction" if found.together else alone
        parts.append(f"{found.version or 'nothing'} to {found.target}, {how}")
    return ", then ".join(parts)


def _notes(seen: PlanPreview) -> list[Line]:
    """Return what the table's numbers rest on, and what could make them wrong."""
    found, forecast = seen.plan, seen.forecast
    notes: list[Line] = [
        f"{size.table}: {'an unknown number of rows' if size.rows is None else f'about {size.rows} rows'}"
        f" in {size_text(size.heap)}, long values {size_text(size.toast)},"
        f" indexes {size_text(size.indexes)}"
        for size in forecast.sizes
    ]
    notes += _online_notes(seen)
    notes += [Toned(f"undoes what is accepted: {said}", Tone.PENDING) for said in found.undoes]
    notes += [f"no estimate for {version}: {reason}" for version, reason in _reasons(forecast)]
    notes += _caveats(forecast) if forecast.sampled else []
    notes += [Toned(f"blocked by {_holder(blocker)}", Tone.PENDING) for blocker in blocked_by(found, forecast)]
    return notes + ([Toned(f"migrate refuses: {seen.refusal}", Tone.REFUSED)] if seen.refusal else [])


def _reasons(forecast: Forecast) -> list[tuple[str, str]]:
    """Return each reason once, with its versions."""
    reasons: dict[str, list[Version]] = {}
    for version, reason in forecast.unmeasured.items():
        reasons.setdefault(reason, []).append(version)
    return [(", ".join(map(str, versions)), reason) for reason, versions in reasons.items()]


def _online_notes(seen: PlanPreview) -> list[Line]:
    found = seen.plan.online
    notes: list[Line] = []
    if found is not None:
        notes.append(Toned(_why_not(found), Tone.PENDING) if found.shape is None else _how(found, seen))
        notes += checks_text(found, *seen.found) if seen.found else []
    notes += [Toned(f"it cannot start now: {seen.obstacle}", Tone.REFUSED)] if seen.obstacle else []
    return notes + [_left(one) for one in seen.begun] + [_kept(one) for one in seen.plan.leftovers if one.kept]


def _steps_of(found: Online) -> str:
    first, last = found.versions[0], found.versions[-1]
    return f"step {first}" if first == last else f"steps {first} to {last}"


def _why_not(found: Online) -> str:
    times = "once" if found.rewrites == 1 else f"{found.rewrites} times"
    reason = found.declined or "; ".join(found.blockers)
    return f"not online: for {_steps_of(found)} {found.table} is rewritten {times} under its lock: {reason}"


def _how(found: Online, seen: PlanPreview) -> str:
    cost = seen.forecast.online
    taken = f"it takes {span_text(cost.seconds)} and {size_text(cost.disk)} of disk" if cost else "see below"
    instead = "" if found.rewrites == 1 else f", once instead of {found.rewrites} times"
    return (
        f"online: for {_steps_of(found)} {found.table} ({size_text(found.size)}) is rewritten beside the one in use"
        f"{instead}; {taken}; only the cutover locks it, for {span_text(BRIEF)}"
    )


def _left(rewrite: BegunRewrite) -> str:
    left = rewrite.leftover
    what = {None: "resumes or removes it", True: "resumes it", False: "removes it"}[rewrite.continues]
    target = "whose comment is missing" if left.lost else f"to {left.target}"
    table = left.table or "a table"
    return f"unfinished: an online rewrite of {table} {target}, {copied_text(rewrite.copied)}: migrate {what}"


def _kept(leftover: Leftover) -> str:
    return f'kept: the old {leftover.table} in the schema "{leftover.name}": migrate --abandon removes it'


def _caveats(forecast: Forecast) -> list[str]:
    copied = " and ".join(f"{count} rows of {name}" for name, count in forecast.sampled.items())
    wrote = f"{size_text(forecast.written)} of files, since removed"
    measured = f"measured in {forecast.spent:.1f} s on copies of {copied} ({wrote}), and extrapolated to all rows;"
    unmeasured = "it does not include a busier server, waiting for others, or WAL"
    counted = f"an index built CONCURRENTLY counts as {CONCURRENT_FACTOR:g}, an online rewrite as one in place"
    notes = [f"{measured} in brackets: the likely range", f"{unmeasured}; {counted}"]
    return notes + ([f"not measured: your {', '.join(forecast.left_out)}"] if forecast.left_out else [])


def _holder(blocker: BlockingTransaction) -> str:
    who = (
        f'the prepared transaction "{blocker.who}"'
        if blocker.pid is None
        else f"pid {blocker.pid} ({blocker.who or 'unnamed'})"
    )
    age = (
        "for an unknown time (this role may not see it)" if blocker.seconds is None else f"for {blocker.seconds:.0f} s"
    )
    return f"{who}, {age}: {blocker.mode} on {blocker.table}"

"""What online rewrites are doing, as text for people and as JSON for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schema_migrator.reports.layout import Table
from schema_migrator.reports.report import size_text

if TYPE_CHECKING:
    from schema_migrator.commands.rewrite import RunningRewrite, StoreRewrites
    from schema_migrator.reports.layout import Cell, Report

_HEADS = ("store", "table", "target", "phase", "rows copied", "change log", "run")


def rewrites_json(found: StoreRewrites) -> dict[str, Any]:
    """Return a store's unfinished rewrites as JSON; times are in UTC."""
    return {
        "store": str(found.store),
        "database": found.database,
        "rewrites": [_rewrite_json(rewrite) for rewrite in found.rewrites],
    }


def _rewrite_json(found: RunningRewrite) -> dict[str, Any]:
    return {
        "schema": found.leftover.name,
        "table": found.leftover.table,
        "target": found.leftover.target or None,
        "rows_copied": found.copied,
        "log_bytes": found.leftover.log_bytes,
        "run": found.runner,
        "control": control_json(found),
    }


def control_json(found: RunningRewrite) -> dict[str, Any] | None:
    """Return a rewrite's control row as JSON, None if it has none."""
    row = found.control
    if row is None:
        return None
    return {
        "phase": row.phase,
        "phase_since": _moment(row.phase_since),
        "begun_at": _moment(row.begun_at),
        "swap_requested": row.swap,
        "paused": row.paused,
        "jobs": row.jobs,
    }


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def rewrites_text(found: tuple[StoreRewrites, ...]) -> Report:
    """Return a table of the unfinished rewrites, or that there are none."""
    rows = tuple(_row(str(store.store), rewrite) for store in found for rewrite in store.rewrites)
    return (Table(_HEADS, rows),) if rows else ("no store has an unfinished online rewrite",)


def _row(store: str, found: RunningRewrite) -> tuple[Cell, ...]:
    return (
        store,
        found.leftover.table,
        found.leftover.target,
        phase_text(found),
        "unknown" if found.copied is None else str(found.copied),
        size_text(found.leftover.log_bytes),
        found.runner or "none: schema-migrator migrate resumes it",
    )


def copied_text(rows: int | None) -> str:
    """Return how many rows a rewrite has copied; None if our role may not see it."""
    return "an unknown number of rows copied" if rows is None else f"{rows} rows copied"


def phase_text(found: RunningRewrite) -> str:
    """Return the phase, since when, and what was asked of the run; without a run, the phase in which it ended."""
    row = found.control
    if row is None:
        return "phase unknown"
    if found.runner is None:
        return f"no run works on it, the last one ended in this phase: {row.phase}"
    asked = [
        *(["paused"] if row.paused else []),
        *(["the cutover is requested"] if row.swap else []),
        *([f"{row.jobs} connection{'s' * (row.jobs != 1)} at most"] if row.jobs else []),
    ]
    return "; ".join([f"{row.phase} since {_moment(row.phase_since)}", *asked])

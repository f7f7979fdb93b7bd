"""The table of a plan's steps, each with what it does and what that costs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from schema_migrator.estimation.model import BRIEF
from schema_migrator.reports.layout import Table
from schema_migrator.reports.report import size_text

if TYPE_CHECKING:
    from schema_migrator.estimation.model import Estimate, Forecast
    from schema_migrator.planning.plan import Plan, PlannedStep
    from schema_migrator.reports.layout import Cell

_MINUTE = 60
_LONG_SECONDS = 600
_TENTHS_BELOW = 10
_NOWHERE = "-"
_SEE_ONLINE = ("see", "online")


def steps_table(found: Plan, forecast: Forecast) -> Table:
    """Return the table of steps; for an installation in one transaction it has no locks and no costs."""
    if found.together:
        rows = tuple((str(step.step.version), tuple(_kinds(step)), step.step.description) for step in found.steps)
        return Table(("version", "statements", "what the vendor says"), rows)
    heads = ("version", "what it does", "locked for", "takes", "disk")
    return Table(heads, tuple(_row(step, forecast) for step in found.steps))


def _row(step: PlannedStep, forecast: Forecast) -> tuple[Cell, ...]:
    lines = (step.step.description, f"statements: {', '.join(_kinds(step))}", *_locks(step))
    return (str(step.step.version), lines, *_cost(step, forecast))


def _cost(step: PlannedStep, forecast: Forecast) -> tuple[Cell, Cell, Cell]:
    found = forecast.steps.get(step.step.version)
    if step.online:
        return _SEE_ONLINE, _SEE_ONLINE, _SEE_ONLINE
    if found is None:
        return "unknown", "unknown", "unknown"
    if not step.locks:
        return _NOWHERE, _span_cell(found.seconds), _NOWHERE
    disk = size_text(found.disk) if found.disk else _NOWHERE
    return _span_cell(found.locked), _span_cell(found.seconds), disk


def _kinds(step: PlannedStep) -> list[str]:
    counts = Counter(" ".join(statement.text.split()[:2]).upper() for statement in step.statements)
    return [f"{count} {kind}" for kind, count in counts.items()] or ["none"]


def _locks(step: PlannedStep) -> list[str]:
    if step.online:
        return ["locks: none, written online"]
    locks = [f"{lock.mode} {lock.table}" for lock in step.locks]
    return [
        *([f"locks: {', '.join(locks)}"] if locks else []),
        *([f"rewrites: {', '.join(step.rewrites)}"] if step.rewrites else []),
        *(["indexes CONCURRENTLY"] if step.concurrently else []),
        *(["resumed"] if step.resumed else []),
    ]


def span_text(span: Estimate) -> str:
    """Return the likely time and its range."""
    if span == BRIEF:
        return "under 1 s"
    if span.likely >= _LONG_SECONDS:
        return _about(span, "min", 1 / _MINUTE)
    return _about(span, "s", 1)


def _span_cell(span: Estimate) -> Cell:
    """Return the likely time, and below it its range."""
    likely, bracket, between = span_text(span).partition(" (")
    return (likely, f"({between}") if bracket else likely


def _about(span: Estimate, unit: str, factor: float) -> str:
    likely, low, high = (_short(count * factor) for count in (span.likely, span.low, span.high))
    return f"{likely} {unit}" if low == high else f"{likely} {unit} ({low} to {high})"


def _short(count: float) -> str:
    return f"{count:.1f}" if count < _TENTHS_BELOW else f"{count:.0f}"

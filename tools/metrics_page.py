"""The table of metrics in docs/monitoring.md, from a run about which everything is known."""

from __future__ import annotations

from functools import cache

from schema_migrator.reports import metrics
from schema_migrator.reports.metrics import Metric, RunMetrics

STORE = {"store": "visibility", "target": "1.14"}
BEGUN = {"version": "0.1.0", "release": "1.32.2", "stores": [{**STORE, "database": "temporal_visibility"}]}
COMPARED = {"recorded": "1.14", "equal": True, "missing": 0, "different": 0, "extra": 0}
ENTERED = {"table": "executions_visibility", "phase": "backfill"}
PROGRESS = {"unit": "rows", "done": 1, "left": 1, "per_second": 1.0, "seconds_left": 1, "workers": 1}
BUDGETS = {f"{name}{end}": 1 for name in metrics.BUDGETS for end in ("", "_limit")}
EVENTS = (
    {"event": "run.started", **BEGUN},
    {"event": "store.planned", **STORE, "version": "1.9", "steps": 5},
    {"event": "schema.compared", **STORE, **COMPARED},
    {"event": "online.phase_entered", **STORE, **ENTERED},
    {"event": "online.progress", **STORE, **PROGRESS},
    {"event": "online.budgets", **STORE, **BUDGETS},
)
"""An event of each kind that changes what is known in a way of its own, with invented values."""


@cache
def every() -> tuple[Metric, ...]:
    """Return every metric that there can be."""
    run = RunMetrics(command="migrate", started=0.0)
    for event in EVENTS:
        run = metrics.after(run, event)
    return metrics.metrics(metrics.ended(run, 0, 1.0), 1.0)


def table() -> str:
    """Return the table of all metrics."""
    rows = (f"| `{metric.name}` | {labels(metric)} | {metric.meaning} |" for metric in every())
    return "\n".join(["| metric | labels | meaning |", "| --- | --- | --- |", *rows])


def labels(metric: Metric) -> str:
    """Return the names of a metric's own labels."""
    return ", ".join(f"`{name}`" for name in metric.samples[0][0])

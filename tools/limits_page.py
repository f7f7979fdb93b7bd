"""The sections of the performance page on the floor, on forecasts and on held cutovers, from what was measured."""

from collections.abc import Iterator, Sequence
from statistics import median

from bench_floor import Floor
from bench_hold import Hold
from install_page import markdown
from rewrite_page import ONLINE, Forecast, Run, case, size

MOST_RATIO = 1.2
"""Our seconds without load, as a multiple of the best floor."""
NEAR, FAR = 0.25, 2.0
"""Half of all forecasts are to be off by no more than the one, none by a factor of more than the other."""
FINISHING = 3.0


def section(runs: Sequence[Run], floors: Sequence[Floor], holds: Sequence[Hold]) -> str:
    """Return the sections, each if something was measured for it."""
    parts = [
        floor_section(runs, floors) if floors else "",
        forecast_section(runs),
        hold_section(holds) if holds else "",
    ]
    return "\n".join(filter(None, parts))


def floor_section(runs: Sequence[Run], floors: Sequence[Floor]) -> str:
    """Return what the work costs as bare SQL, and ours beside it."""
    heads = (
        "server",
        "from",
        "rows",
        "connections",
        "copy",
        "indexes",
        "VACUUM",
        "comparison",
        "floor",
        "ours",
        "ratio",
    )
    return f"""## The floor

The same work as bare SQL while nobody else uses the table: one `INSERT ... SELECT` of all rows into a table of the new
structure, the same indexes on some connections, `VACUUM (ANALYZE)`, and one join that compares both tables. *Ours* is
the whole process of `migrate --rewrite online` without load. The goal is a ratio of {MOST_RATIO:g} to the best floor.

{markdown(heads, floor_rows(runs, floors))}
"""


def floor_rows(runs: Sequence[Run], floors: Sequence[Floor]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each floor, with the ratio beside the best one of its store."""
    for floor in floors:
        same = [other for other in floors if (other.server, other.rows, other.start) == floor.key[:3]]
        best = min(same, key=lambda other: other.seconds)
        ours = [
            run.seconds
            for run in runs
            if (run.server, run.rows, run.start) == floor.key[:3] and run.way == ONLINE and not run.writes
        ]
        parts = (floor.copy, floor.indexes, floor.vacuum, floor.compare, floor.seconds)
        shown = (f"{ours[0]:.1f}", f"{ours[0] / best.seconds:.2f}") if ours and floor is best else ("", "")
        head = (floor.server, floor.start, f"{floor.rows:,}", str(floor.jobs))
        yield (*head, *(f"{part:.1f}" for part in parts), *shown)


def forecast_section(runs: Sequence[Run]) -> str:
    """Return what `plan` forecast, and what then happened; nothing if no forecast was kept."""
    seen = [(run, run.forecast) for run in runs if run.forecast is not None]
    if not seen:
        return ""
    heads = ("server", "writes/s", "from", "rows", "way", "seconds, forecast", "in fact", "ratio")
    heads += ("disk, forecast", "in fact", "ratio", "the trial")
    ratios = [ratio for run, forecast in seen for ratio in (time_ratio(run, forecast), disk_ratio(run, forecast))]
    off = [max(ratio, 1 / ratio) for ratio in ratios]
    return f"""## Forecasts

What `plan` says before each run, and what then happened. The forecast of seconds is that of the rewrite; in fact is the
whole process. Disk is what the rewrite adds to the database at its peak.

{markdown(heads, (forecast_row(run, forecast) for run, forecast in seen))}

Half of the forecasts are off by no more than {median(off) - 1:.0%} (goal: {NEAR:.0%}), the worst one by a factor of
{max(off):.2f} (goal: {FAR:g}).
"""


def time_ratio(run: Run, forecast: Forecast) -> float:
    """Return the seconds of a run as a multiple of its forecast."""
    return run.seconds / forecast.seconds


def disk_ratio(run: Run, forecast: Forecast) -> float:
    """Return the disk that a run took as a multiple of its forecast."""
    return (run.disk_peak - run.disk_before) / forecast.made


def forecast_row(run: Run, forecast: Forecast) -> tuple[str, ...]:
    """Return the row of a run with a forecast."""
    return (
        *case(run),
        f"{forecast.seconds:.1f}",
        f"{run.seconds:.1f}",
        f"{time_ratio(run, forecast):.2f}",
        size(forecast.made),
        size(run.disk_peak - run.disk_before),
        f"{disk_ratio(run, forecast):.2f}",
        f"{forecast.spent:.1f} s, {size(forecast.written)}",
    )


def hold_section(holds: Sequence[Hold]) -> str:
    """Return how held cutovers ended."""
    heads = ("server", "from", "rows", "writes/s", "held", "until done", "locked", "writes", "longest", "checked")
    return f"""## A held cutover

`migrate --rewrite online --hold-cutover` waited while there were writes, then another `migrate` asked for the cutover.
*Until done* are the seconds of that other process, from its start to its end (goal: {FINISHING:g}); *longest* is the
longest wait of a write, from the first copied row to the end.

{markdown(heads, map(hold_row, holds))}
"""


def hold_row(hold: Hold) -> tuple[str, ...]:
    """Return the row of a held cutover."""
    return (
        hold.server,
        hold.start,
        f"{hold.rows:,}",
        f"{hold.asked:,.0f}",
        f"{hold.held:,.0f} s",
        f"{hold.finishing:.1f} s",
        f"{hold.locked:.2f} s",
        f"{hold.writer.done:,}",
        f"{hold.writer.longest:.2f} s",
        "**no**" if hold.problems else "yes",
    )

"""The plots of docs/performance.md: the longest wait of a write during an upgrade, and seconds of an installation."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from install_page import Installations, Result
from rewrite_page import ONLINE, USUAL, VENDOR, Run

NAMES = {VENDOR: "temporal-sql-tool", "in-place": "schema-migrator, in place", ONLINE: "schema-migrator, online"}
COLOURS = {VENDOR: "#9aa4af", "in-place": "#d29922", ONLINE: "#1f6feb"}
TEXT, MUTED = "#24292f", "#57606a"
WIDE = 9.0
TENTH = 0.1
MISSING = "\u2013"
STYLE = {
    "svg.fonttype": "path",  # looks the same whatever fonts a reader has
    "svg.hashsalt": "plots",  # the same results make the same file
    "font.size": 10,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": "#d0d7de",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


def draw_waits(runs: Sequence[Run], place: Path) -> None:
    """Draw the longest wait of a write by rows, a panel for each version that upgrades start at."""
    shown = [run for run in runs if run.rows and run.writes == USUAL and run.server == runs[-1].server]
    starts = sorted({run.start for run in shown})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 3.6), layout="constrained")
        panels = figure.subplots(1, len(starts), sharey=True, squeeze=False)[0]
        figure.suptitle(f"Longest wait of a write during an upgrade to 1.14, in seconds ({MISSING}: not measured)")
        for panel, start in zip(panels, starts, strict=True):
            panel.set_title(f"from {start}")
            _waits(panel, [run for run in shown if run.start == start])
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(NAMES))
        _save(figure, place)


def _waits(panel: Axes, runs: Sequence[Run]) -> None:
    """Draw a group of bars for each number of rows; what was not measured has none."""
    sizes = sorted({run.rows for run in runs})
    width = 0.8 / len(NAMES)
    for number, way in enumerate(NAMES):
        found = {run.rows: run.writer.longest for run in runs if run.way == way}
        places = [place + (number - 1) * width for place in range(len(sizes))]
        bars = panel.bar(places, [found.get(rows, 0) for rows in sizes], width, label=NAMES[way], color=COLOURS[way])
        _label(panel, bars, [_short(found[rows]) if rows in found else MISSING for rows in sizes])
    panel.set_xticks(range(len(sizes)), [f"{rows:,} rows" for rows in sizes])


def _short(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds >= TENTH else f"{seconds:.2f}"


def draw_installations(page: Installations, place: Path) -> None:
    """Draw the median seconds of both tools, two bars for each case."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 0.55 * len(page.results) + 1.2), layout="constrained")
        panel = figure.subplots()
        panel.set_title("Seconds for both stores (median; shorter is better)")
        places = range(len(page.results))
        for shift, way, name in ((-0.2, VENDOR, NAMES[VENDOR]), (0.2, ONLINE, "schema-migrator")):
            values = [_seconds(result, way) for result in page.results]
            bars = panel.barh([place + shift for place in places], values, 0.38, label=name, color=COLOURS[way])
            _label(panel, bars, [f"{value:.2f}" for value in values])
        panel.set_yticks(places, [_case(result) for result in page.results])
        panel.margins(y=0.01)
        panel.invert_yaxis()
        figure.legend(loc="outside lower center", ncols=2)
        _save(figure, place)


def _seconds(result: Result, way: str) -> float:
    return median(sample.seconds for sample in (result.vendor if way == VENDOR else result.ours))


def _case(result: Result) -> str:
    case = result.case
    return f"{case.release}, {case.job}\n" + (f"{case.link} per round trip" if case.delay else "no delay")


def _label(panel: Axes, bars: BarContainer, texts: Sequence[str]) -> None:
    panel.bar_label(bars, labels=list(texts), padding=3, fontsize=8, color=MUTED)


def _save(figure: Figure, place: Path) -> None:
    """Write the figure as SVG, without the date, which would change with every drawing."""
    figure.savefig(place, format="svg", metadata={"Date": None})
    place.write_text("\n".join(line.rstrip() for line in place.read_text().splitlines()) + "\n", encoding="utf-8")

"""Seconds and the longest wait of upgrades under load, by rows, as SVG; every function returns text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from rewrite_page import WAYS, Run

LEFT, TOP, ACROSS, DOWN, GAP_X, GAP_Y = 64, 92, 300, 190, 84, 92
COLOURS = {"vendor": "vendor", "in-place": "place", "online": "online"}
TITLES: tuple[tuple[str, Callable[[Run], float]], ...] = (
    ("seconds of the upgrade", lambda run: run.seconds),
    ("seconds of the longest write", lambda run: run.writer.longest),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A logarithmic scale from one power of ten to another, over so many points from `start` on."""

    low: int
    high: int
    start: float
    length: float

    def at(self, value: float) -> float:
        """Return where a value lies."""
        return self.start + self.length * (log10(value) - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[int]:
        """The powers of ten."""
        return list(range(self.low, self.high + 1))


def axis(values: Iterable[float], start: float, length: float) -> Axis:
    """Return the scale that holds all values."""
    found = list(values)
    low, high = floor(log10(min(found))), ceil(log10(max(found)))
    return Axis(low=low, high=max(high, low + 1), start=start, length=length)


def picture(runs: Sequence[Run]) -> str:
    """Return four panels: both starts, seconds and waits, for light and dark; nothing can be shown of no rows."""
    shown = [run for run in runs if run.rows]
    starts = sorted({run.start for run in shown})
    panels = "".join(
        panel([run for run in shown if run.start == start], start, column, row, shown)
        for row in range(len(TITLES))
        for column, start in enumerate(starts)
    )
    width, height = LEFT + len(starts) * (ACROSS + GAP_X) - 24, TOP + len(TITLES) * (DOWN + GAP_Y) - 24
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"
  role="img" aria-label="Seconds and longest wait by rows, as in the table">
<style>
  svg {{ font: 13px system-ui, sans-serif }}
  .page {{ fill: #ffffff }} text {{ fill: #24292f }} .minor {{ fill: #57606a; font-size: 11px }}
  .grid {{ stroke: #d0d7de }} polyline {{ fill: none; stroke-width: 2 }}
  .vendor {{ fill: #9aa4af; stroke: #9aa4af }} .place {{ fill: #bf8700; stroke: #bf8700 }}
  .online {{ fill: #1f6feb; stroke: #1f6feb }} polyline.vendor, polyline.place, polyline.online {{ fill: none }}
  @media (prefers-color-scheme: dark) {{
    .page {{ fill: #0d1117 }} text {{ fill: #e6edf3 }} .minor {{ fill: #9198a1 }} .grid {{ stroke: #30363d }}
    .vendor {{ fill: #6e7681; stroke: #6e7681 }} .online {{ fill: #4493f8; stroke: #4493f8 }}
  }}
</style>
<rect class="page" width="{width}" height="{height}" rx="8"/>
<text x="16" y="26" font-weight="600">An upgrade to 1.14 under load, by rows (all scales logarithmic)</text>
{legend()}{panels}</svg>
"""


def legend() -> str:
    """Return the ways with their colours."""
    names = {"vendor": "temporal-sql-tool", "in-place": "ours in place", "online": "ours online"}
    return "".join(
        f'<circle class="{COLOURS[way]}" cx="{22 + 170 * place}" cy="46" r="5"/>'
        f'<text x="{34 + 170 * place}" y="51">{names[way]}</text>\n'
        for place, way in enumerate(WAYS)
    )


def panel(runs: Sequence[Run], start: str, column: int, row: int, shown: Sequence[Run]) -> str:
    """Return one start's figures of one kind; the scales are those of all starts."""
    title, measure = TITLES[row]
    left, top = LEFT + column * (ACROSS + GAP_X), TOP + row * (DOWN + GAP_Y)
    across = axis((run.rows for run in shown), left, ACROSS)
    down = axis((max(measure(run), 0.001) for run in shown), top + DOWN, -DOWN)
    head = f'<text x="{left}" y="{top - 12}">from {start}: {title}</text>\n'
    return head + "".join([*grid(across, down), *lines(runs, measure, across, down)])


def grid(across: Axis, down: Axis) -> Iterator[str]:
    """Yield the lines of both scales with their figures."""
    for power in across.ticks:
        x = across.at(10**power)
        yield f'<path class="grid" d="M{x:.1f} {down.start:.1f}v{down.length:.1f}"/>'
        yield f'<text class="minor" x="{x:.1f}" y="{down.start + 16:.1f}" text-anchor="middle">{10**power:,}</text>\n'
    for power in down.ticks:
        y = down.at(10**power)
        yield f'<path class="grid" d="M{across.start:.1f} {y:.1f}h{across.length:.1f}"/>'
        yield f'<text class="minor" x="{across.start - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{10**power:g}</text>\n'


def lines(runs: Sequence[Run], measure: Callable[[Run], float], across: Axis, down: Axis) -> Iterator[str]:
    """Yield a line through the points of each way."""
    for way in WAYS:
        points = [(across.at(run.rows), down.at(max(measure(run), 0.001))) for run in runs if run.way == way]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="{COLOURS[way]}" points="{path}"/>\n' if points else ""
        yield from (f'<circle class="{COLOURS[way]}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>\n' for x, y in points)

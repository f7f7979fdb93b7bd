"""The section of the performance page on upgrades under load, from what was measured; every function returns text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Protocol, TypeVar

from install_page import Goal, markdown

VENDOR, ONLINE, FLOOR = "vendor", "online", "floor"
WAYS = (VENDOR, "in-place", ONLINE)
LEAST_RATIO = {"1.2": 5.0, "1.9": 1.8}
"""By where the upgrade starts: how many times faster than the vendor's tool ours is to be."""
LARGE = 10**5
"""Rows from which on speed and growth have limits: what a run takes anyway, some seconds, is little by then."""
LONGEST_WAIT = 0.3
MOST_GROWTH = 1.35
"""Seconds for each row at most, as a multiple of those of a smaller store."""
USUAL = 200.0
"""Writes in a second, on which the goals are judged."""
MEGA, GIGA = 10**6, 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What clients noticed: operations, seconds of the longest, seconds of all that took 0.1 s and more."""

    done: int
    longest: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What `plan` forecasts: seconds, and bytes of new files; the trial's own seconds and bytes."""

    seconds: float
    made: float
    spent: float
    written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One upgrade: seconds and bytes; `checksum` is of all rows that were there before; `problems` should be none.

    `server` is PostgreSQL's version, `writes` what the writers were asked for in a second, `forecast` what `plan` said
    before.
    """

    start: str
    rows: int
    way: str
    server: str = "18.6"
    writes: float = USUAL
    forecast: Forecast | None = None
    seconds: float
    wal: float
    writer: Figures
    reader: Figures
    disk_before: int
    disk_peak: int
    disk_after: int
    checksum: str
    problems: list[str]
    about: Mapping[str, str]

    @property
    def key(self) -> tuple[str, float, int, str, int]:
        """What a run is sorted and replaced by."""
        return self.server, self.writes, self.rows, self.start, WAYS.index(self.way)


class Keyed(Protocol):
    """Something that was measured, and what it is sorted and replaced by."""

    @property
    def key(self) -> Any:  # noqa: ANN401 - keys of one kind compare with each other
        """The key."""


K = TypeVar("K", bound=Keyed)


def merged(old: Iterable[K], new: K) -> tuple[K, ...]:
    """Return what was measured, the new one in place of an old one."""
    found = {measured.key: measured for measured in (*old, new)}
    return tuple(found[key] for key in sorted(found))


def table(runs: Iterable[Run]) -> str:
    """Return the results as a Markdown table."""
    heads = ("server", "writes/s", "from", "rows", "way", "seconds", "longest write", "all waits", "longest read")
    return markdown((*heads, "all waits", "WAL", "disk before, at most, after", "checked"), map(row, runs))


def row(run: Run) -> tuple[str, ...]:
    """Return a run's row of the table."""
    return (
        *case(run),
        f"{run.seconds:.1f}",
        f"{run.writer.longest:.2f} s",
        f"{run.writer.total:.1f} s",
        f"{run.reader.longest:.2f} s",
        f"{run.reader.total:.1f} s",
        size(run.wal),
        f"{size(run.disk_before)}, {size(run.disk_peak)}, {size(run.disk_after)}",
        "**no**" if run.problems else "yes",
    )


def case(run: Run) -> tuple[str, ...]:
    """Return the cells that say what a run was."""
    return run.server, f"{run.writes:,.0f}", run.start, f"{run.rows:,}", run.way


def size(number: float) -> str:
    """Return bytes for people."""
    return f"{number / GIGA:.2f} GB" if number >= GIGA else f"{number / MEGA:.0f} MB"


def goals(runs: Sequence[Run]) -> str:
    """Return the limits, and whether they were kept, as a Markdown table."""
    rows = ((one.what, one.limit, one.measured, "yes" if one.met else "**no**") for one in judge(runs))
    return markdown(("goal", "limit", "measured", "met"), rows)


def judge(runs: Sequence[Run]) -> Iterator[Goal]:
    """Yield the goals: one for speed and waits of each store that all ways were measured on, one for growth."""
    for (_, writes, rows, _), group in groupby(runs, lambda run: run.key[:4]):
        ways = {run.way: run for run in group}
        if writes != USUAL:
            continue
        if rows >= LARGE and {VENDOR, ONLINE} <= ways.keys():
            yield _faster(ways[VENDOR], ways[ONLINE])
        if rows and ONLINE in ways:
            yield _unnoticed(ways[ONLINE])
        if len(ways) > 1:
            yield _equal(list(ways.values()))
    online = [run for run in runs if run.way == ONLINE and run.rows]
    for server, writes, start in sorted({(run.server, run.writes, run.start) for run in online}):
        yield from _linear([run for run in online if (run.server, run.writes, run.start) == (server, writes, start)])


def _faster(vendor: Run, ours: Run) -> Goal:
    ratio, least = vendor.seconds / ours.seconds, LEAST_RATIO[ours.start]
    return Goal(
        what=f"{name(ours)}, seconds",
        limit=f"{least:g} times faster than the vendor's tool",
        measured=f"{ratio:.1f} times",
        met=ratio >= least,
    )


def _unnoticed(ours: Run) -> Goal:
    return Goal(
        what=f"{name(ours)}, longest wait of a write",
        limit=f"under {LONGEST_WAIT:g} s",
        measured=f"{ours.writer.longest:.2f} s",
        met=ours.writer.longest < LONGEST_WAIT,
    )


def _equal(runs: Sequence[Run]) -> Goal:
    same = len({run.checksum for run in runs}) == 1 and not any(run.problems for run in runs)
    return Goal(
        what=f"{name(runs[0])}, schema and rows afterwards",
        limit="equal for all ways",
        measured="equal" if same else "different",
        met=same,
    )


def _linear(runs: Sequence[Run]) -> Iterator[Goal]:
    large = [run for run in runs if run.rows >= LARGE]
    for small, other in pairwise(large):
        growth = (other.seconds / other.rows) / (small.seconds / small.rows)
        yield Goal(
            what=f"{name(other)}, seconds for each row",
            limit=f"at most {MOST_GROWTH:g} times those of {small.rows:,} rows",
            measured=f"{growth:.2f} times",
            met=growth <= MOST_GROWTH,
        )


def name(run: Run) -> str:
    """Return what a run's store is called."""
    return f"{run.server}, {run.start}, {run.rows:,} rows" + ("" if run.writes else ", no load")


def facts(runs: Sequence[Run]) -> str:
    """Return what the figures depend on, as a Markdown table."""
    names = dict.fromkeys(name for run in runs for name in run.about)
    return markdown(
        ("what", "which"), ((name, ", ".join(dict.fromkeys(run.about[name] for run in runs))) for name in names)
    )


def section(runs: Sequence[Run]) -> str:
    """Return what the page says of upgrades under load."""
    return f"""## An upgrade under load

A visibility store of release 1.32.2 is upgraded from version 1.2 or 1.9 to 1.14: with the vendor's tool
(`update-schema`), with `schema-migrator migrate --rewrite in-place`, which runs the same statements, and with
`--rewrite online`. Each run gets a fresh copy of the same database. The rows have search attributes of every type; one
in 128 has a memo stored out of line.

{facts(runs)}

{goals(runs)}

{table(runs)}

![Longest wait of a write during an upgrade, by rows](rewrite.svg)

- Seconds are those of the whole process, including our proof at the end.
- During the upgrade a role other than the owner writes so often over two connections or more (starts, upserts and
  deletes in the server's own forms, changed keys) and lists a page of workflows ten times a second. The longest write
  or read is the longest of these statements; all waits are the sum of those that took 0.1 s or more.
- WAL is everything that the server wrote from the start of the run to its end, including these writes.
- Disk is the size of the database, measured four times a second, with temporary files and without WAL.
- Checked: afterwards `pg_dump`, the history and the version row are the same as after the vendor's tool. Every row that
  was written during the upgrade is as its writer last wrote it, with its generated columns. Every page that was read
  was full and in order. A checksum of all other rows is the same for all three ways.
"""

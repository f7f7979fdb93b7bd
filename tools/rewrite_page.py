"""The section of the performance page on upgrades under load, from what was measured; every function returns text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from install_page import Goal, markdown

VENDOR, ONLINE = "vendor", "online"
WAYS = (VENDOR, "in-place", ONLINE)
LEAST_RATIO = {"1.2": 5.0, "1.9": 1.8}
"""By where the upgrade starts: how many times faster than the vendor's tool ours is to be."""
LARGE = 10**5
"""Rows from which on speed and growth have limits: what a run takes anyway, some seconds, is little by then."""
LONGEST_WAIT = 1.0
MOST_GROWTH = 1.35
"""Seconds for each row at most, as a multiple of those of a smaller store."""
MEGA, GIGA = 10**6, 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What clients noticed: operations, seconds of the longest, seconds of all that took 0.1 s and more."""

    done: int
    longest: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One upgrade: seconds and bytes; `checksum` is of all rows that were there before; `problems` should be none."""

    start: str
    rows: int
    way: str
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
    def key(self) -> tuple[int, str, int]:
        """What a run is sorted and replaced by."""
        return self.rows, self.start, WAYS.index(self.way)


def merged(old: Iterable[Run], new: Iterable[Run]) -> tuple[Run, ...]:
    """Return the runs, new ones in place of old ones."""
    runs = {run.key: run for run in (*old, *new)}
    return tuple(runs[key] for key in sorted(runs))


def table(runs: Iterable[Run]) -> str:
    """Return the results as a Markdown table."""
    heads = ("from", "rows", "way", "seconds", "longest write", "all waits", "longest read", "all waits", "WAL")
    return markdown((*heads, "disk before, at most, after", "checked"), map(row, runs))


def row(run: Run) -> tuple[str, ...]:
    """Return a run's row of the table."""
    return (
        run.start,
        f"{run.rows:,}",
        run.way,
        f"{run.seconds:.1f}",
        f"{run.writer.longest:.2f} s",
        f"{run.writer.total:.1f} s",
        f"{run.reader.longest:.2f} s",
        f"{run.reader.total:.1f} s",
        size(run.wal),
        f"{size(run.disk_before)}, {size(run.disk_peak)}, {size(run.disk_after)}",
        "**no**" if run.problems else "yes",
    )


def size(number: float) -> str:
    """Return bytes for people."""
    return f"{number / GIGA:.2f} GB" if number >= GIGA else f"{number / MEGA:.0f} MB"


def goals(runs: Sequence[Run]) -> str:
    """Return the limits, and whether they were kept, as a Markdown table."""
    rows = ((one.what, one.limit, one.measured, "yes" if one.met else "**no**") for one in judge(runs))
    return markdown(("goal", "limit", "measured", "met"), rows)


def judge(runs: Sequence[Run]) -> Iterator[Goal]:
    """Yield the goals: one for speed and waits of each store that all ways were measured on, one for growth."""
    for (rows, _), group in groupby(runs, lambda run: (run.rows, run.start)):
        ways = {run.way: run for run in group}
        if rows >= LARGE and {VENDOR, ONLINE} <= ways.keys():
            yield _faster(ways[VENDOR], ways[ONLINE])
        if rows and ONLINE in ways:
            yield _unnoticed(ways[ONLINE])
        if len(ways) > 1:
            yield _equal(list(ways.values()))
    for start in LEAST_RATIO:
        yield from _linear([run for run in runs if run.way == ONLINE and run.start == start and run.rows])


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
    return f"{run.start}, {run.rows:,} rows"


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
- During the upgrade a role other than the owner writes 200 times a second over two connections (starts, upserts and
  deletes in the server's own forms, changed keys) and lists a page of workflows ten times a second. The longest write
  or read is the longest of these statements; all waits are the sum of those that took 0.1 s or more.
- WAL is everything that the server wrote from the start of the run to its end, including these writes.
- Disk is the size of the database, measured four times a second, with temporary files and without WAL.
- Checked: afterwards `pg_dump`, the history and the version row are the same as after the vendor's tool. Every row that
  was written during the upgrade is as its writer last wrote it, with its generated columns. Every page that was read
  was full and in order. A checksum of all other rows is the same for all three ways.
"""

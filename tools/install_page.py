"""The section of the performance page on installations, from what was measured; every function returns text."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

INSTALL, PROVE, NOTHING = "install", "install, proven", "nothing to do"
JOBS = (INSTALL, PROVE, NOTHING)
MOST_TRIPS = {INSTALL: 24, NOTHING: 12}
LEAST_RATIO = 3.0
MOST_SECONDS_MORE = 0.6
MOST_MEMORY = 80
MEGA = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What was run; `delay` is in seconds a round trip."""

    release: str
    job: str
    delay: float

    @property
    def link(self) -> str:
        """The delay for people."""
        return f"{self.delay * 1000:.0f} ms" if self.delay else "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of all commands of a tool; `memory` in bytes is the largest of its processes'."""

    seconds: float
    memory: int
    round_trips: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two runs, one right after the other."""

    ours: Sample
    vendor: Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All measured pairs of a case."""

    case: Case
    pairs: tuple[Pair, ...]

    @property
    def ours(self) -> tuple[Sample, ...]:
        """Our runs."""
        return tuple(pair.ours for pair in self.pairs)

    @property
    def vendor(self) -> tuple[Sample, ...]:
        """The vendor's runs."""
        return tuple(pair.vendor for pair in self.pairs)

    @property
    def ratio(self) -> float:
        """How many times as long as ours the vendor's took, pair by pair, the median."""
        return median(pair.vendor.seconds / pair.ours.seconds for pair in self.pairs)

    @property
    def seconds_more(self) -> float:
        """How many seconds more than the vendor's ours took, pair by pair, the median."""
        return median(pair.ours.seconds - pair.vendor.seconds for pair in self.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A limit and what was measured."""

    what: str
    limit: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Installations:
    """All results of installations, and the seconds that Python takes to start with our modules."""

    about: Mapping[str, str]
    results: tuple[Result, ...]
    startup: float

    def table(self) -> str:
        """Return the results as a Markdown table."""
        heads = ("release", "job", "delay", "round trips, theirs", "ours", "seconds, theirs", "ours", "theirs / ours")
        return markdown((*heads, "our memory"), map(row, self.results))

    def goals(self) -> str:
        """Return the limits, and whether they were kept, as a Markdown table."""
        rows = ((one.what, one.limit, one.measured, "yes" if one.met else "**no**") for one in self.judge())
        return markdown(("goal", "limit", "measured", "met"), rows)

    def judge(self) -> Iterable[Goal]:
        """Yield the goals."""
        for job, limit in MOST_TRIPS.items():
            ours = (sample.round_trips or 0 for one in self.results if one.case.job == job for sample in one.ours)
            trips = max(ours)
            yield Goal(
                what=f"round trips, both stores, {job}",
                limit=f"at most {limit}",
                measured=str(trips),
                met=trips <= limit,
            )
        for case in (one for one in self.results if one.case.delay and one.case.job == INSTALL):
            yield Goal(
                what=f"install {case.case.release} with {case.case.link} a round trip",
                limit=f"{LEAST_RATIO:g} times faster",
                measured=f"{case.ratio:.1f} times",
                met=case.ratio >= LEAST_RATIO,
            )
        for case in (one for one in self.results if not one.case.delay and one.case.job != PROVE):
            yield Goal(
                what=f"{case.case.job} {case.case.release} with no delay",
                limit=f"at most {MOST_SECONDS_MORE:g} s slower",
                measured=f"{case.seconds_more:+.2f} s",
                met=case.seconds_more <= MOST_SECONDS_MORE,
            )
        memory = max(sample.memory for one in self.results for sample in one.ours)
        yield Goal(
            what="peak memory",
            limit=f"under {MOST_MEMORY} MB",
            measured=f"{memory / MEGA:.0f} MB",
            met=memory < MOST_MEMORY * MEGA,
        )


def row(result: Result) -> tuple[str, ...]:
    """Return a result's row of the table."""
    case = result.case
    return (
        case.release,
        case.job,
        case.link,
        trips(result.vendor),
        trips(result.ours),
        seconds(result.vendor),
        seconds(result.ours),
        f"{result.ratio:.2f}",
        f"{max(sample.memory for sample in result.ours) / MEGA:.0f} MB",
    )


def trips(samples: Iterable[Sample]) -> str:
    """Return the round trips, from the fewest to the most where they differ."""
    found = sorted({sample.round_trips for sample in samples if sample.round_trips is not None})
    return " to ".join(map(str, dict.fromkeys((found[0], found[-1])))) if found else ""


def seconds(samples: Iterable[Sample]) -> str:
    """Return the median with the extremes."""
    found = [sample.seconds for sample in samples]
    return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def markdown(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table whose columns are aligned in plain text too."""
    table = [heads, *rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    table.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    )


def section(page: Installations) -> str:
    """Return what the page says of installations."""
    about = page.about
    facts = markdown(
        ("what", "which"), ((name, about[name]) for name in ("date", "vendor", "PostgreSQL", "Python", "CPUs"))
    )
    return f"""## An installation

The vendor's tool runs its four commands (`setup-schema` and `update-schema` for each store) one after the
other; ours is one process, `schema-migrator migrate` {about["ours"]}. Both run alternately on one server, taking turns
to go first, {about["repetitions"]} times after a warm-up, each time on fresh databases: the installation, then the same
commands again with nothing to do. The vendor's tool proves nothing, so the goals apply to ours with `--no-verify`;
"{PROVE}" is its default.

{facts}

{page.goals()}

{page.table()}

![Seconds of both tools](performance.svg)

- Seconds are medians (least to most) of whole processes, from start to exit. Starting Python with our modules
  takes {page.startup:.2f} s of ours. The ratio is the median of the pairs' ratios: above 1, ours is faster.
- Round trips are those after authentication, on all connections. A proxy between client and server counts them and
  adds the delay to each one, including those of the authentication. Without a delay there is no proxy.
- The server does not wait for its disk (fsync off), except with `make bench BENCH=--durable`. Then every autocommit of
  the vendor's tool waits, and each of our few commits.
- Memory is the peak of the resident set of our process, the largest of all runs.
"""

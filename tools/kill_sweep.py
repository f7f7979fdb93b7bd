"""Stops the vendor's tool, and ours, at every statement in turn, then tries our next run; `make sweep`.

Each process has its own server and takes slices of the points. The results are kept as lines of JSON
in build/sweep, from which docs/sweep.md is written.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TypeAlias

import sweep_page
from support.postgres.databases import RELEASES, STORES, Databases, fresh
from support.postgres.engine import wheel
from support.program.references import NEWEST, References
from support.vendor.kill_sweep import Outcome, Sweep, points
from support.vendor.own_sweep import EMPTY, Own, journey

VERSIONS = ("1.29.1", NEWEST)
STARTS = {"default": (EMPTY, "1.3", "1.9", "1.18"), "visibility": (EMPTY, "1.2", "1.9")}
ROOT = RELEASES.parent
FOUND = ROOT / "build" / "sweep"
SLICES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendors:
    """A part of the points of one release and store; neighbours are together, since they leave the same state."""

    release: str
    store: str
    part: int
    every: bool

    @property
    def file(self) -> Path:
        """Where its outcomes are kept."""
        return FOUND / f"vendor-{self.release}-{self.store}-{self.part}.jsonl"

    def outcomes(self, databases: Databases) -> Iterator[Outcome]:
        """Yield what comes of each point."""
        sweep = Sweep(databases=databases, references=References(databases=databases), every=self.every)
        listed = points(databases, self.release, self.store)
        size = -(-len(listed) // SLICES)
        for point in listed[self.part * size : (self.part + 1) * size]:
            yield from sweep.outcomes(point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """One of our own ways, stopped at one message of so many, before and after it in turn."""

    store: str
    start: str
    step: int

    @property
    def file(self) -> Path:
        """Where its outcomes are kept."""
        return FOUND / f"own-{self.store}-{self.start}.jsonl"

    def outcomes(self, databases: Databases) -> Iterator[Own]:
        """Yield what comes of each stop."""
        way = journey(databases, NEWEST, self.store, self.start)
        for turn, message in enumerate(range(1, way.length() + 1, self.step)):
            yield way.stop(message, after=bool(turn % 2))


Slice: TypeAlias = Vendors | Ours


def main() -> None:
    """Try all points and write docs/sweep.md."""
    args = arguments()
    began = time.monotonic()
    FOUND.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.processes) as pool:
        running = {pool.submit(try_slice, one): one for one in slices(args)}
        for done in as_completed(running):
            print(running[done].file.stem, *done.result(), file=sys.stderr, flush=True)
    about = sweep_page.about(args.processes, args.step, time.monotonic() - began)
    page = sweep_page.page(about, found("vendor"), found("own"))
    (ROOT / "docs" / "sweep.md").write_text(page, encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--processes", type=int, default=2, help="that work side by side (2)")
    parser.add_argument("--step", type=int, default=19, help="stop ours at one message of so many (19)")
    parser.add_argument("--every", action="store_true", help="migrate at every point, also a state that came before")
    return parser.parse_args()


def slices(args: argparse.Namespace) -> list[Slice]:
    """Return all that is to be tried, the longest first."""
    ours = [Ours(store=store, start=start, step=args.step) for store, starts in STARTS.items() for start in starts]
    parts = product(VERSIONS, STORES, range(SLICES))
    return [*reversed(ours), *(Vendors(release=r, store=s, part=part, every=args.every) for r, s, part in parts)]


def try_slice(one: Slice) -> tuple[int, int]:
    """Try a slice on a server of its own; return how many outcomes there are, and how many are bad."""
    bad = total = 0
    with wheel() as engine, fresh(engine) as databases, one.file.open("w", encoding="utf-8") as out:
        for outcome in one.outcomes(databases):
            print(json.dumps(asdict(outcome)), file=out, flush=True)
            total, bad = total + 1, bad + bool(outcome.problem)
    return total, bad


def found(kind: str) -> list[sweep_page.Found]:
    """Return the outcomes of a kind."""
    files = sorted(FOUND.glob(f"{kind}-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()

"""Compares the vendor's tool and ours: an installation, and an upgrade under load; `make bench` runs it.

The results are kept in docs/performance.json, where a new figure replaces the old one; docs/performance.md and its
plots are written from them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

import bench_install
import bench_rewrite
import install_page
import limits_page
import rewrite_page
from bench_floor import Floor
from bench_hold import Hold
from install_page import Installations
from rewrite_page import FLOOR, WAYS, Run, merged
from support.postgres.databases import RELEASES

INSTALL, REWRITE = "install", "rewrite"
STARTS = ("1.2", "1.9")
DOCS = RELEASES.parent / "docs"
RESULTS = DOCS / "performance.json"
HEAD = """# Performance

Written by `make bench`, which measures everything again. Do not edit it by hand. `make bench BENCH="--help"` shows how
to measure a part of it, or larger stores; the other results stay.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that was measured."""

    install: Installations | None = None
    rewrite: tuple[Run, ...] = ()
    floors: tuple[Floor, ...] = ()
    holds: tuple[Hold, ...] = ()

    def with_(self, found: Run | Floor | Hold) -> "Results":
        """Return the results with a new one, in place of the old one of its kind."""
        match found:
            case Run():
                return replace(self, rewrite=merged(self.rewrite, found))
            case Floor():
                return replace(self, floors=merged(self.floors, found))
            case Hold():
                return replace(self, holds=merged(self.holds, found))


FORM = TypeAdapter(Results)


def main() -> None:
    """Measure, print the tables, and write the results, the page and the pictures."""
    args = arguments()
    before = FORM.validate_json(RESULTS.read_bytes()) if RESULTS.exists() else Results()
    for results in (before,) if args.page else measured(args, before):
        if not args.no_write:
            write(results)


def measured(args: argparse.Namespace, results: Results) -> Iterator[Results]:
    """Measure what was asked for and print it; yield the results whenever there is something new."""
    if INSTALL in args.parts:
        found = bench_install.installations(args.repetitions, durable=args.durable)
        print(found.table(), found.goals(), sep="\n\n")
        yield (results := replace(results, install=found))
    if REWRITE in args.parts:
        wanted = bench_rewrite.Wanted(
            starts=args.starts, rows=args.rows, ways=args.ways, writes=args.writes, hold=args.hold, bindir=args.bindir
        )
        for found in bench_rewrite.measure(wanted):
            print(found, file=sys.stderr, flush=True)
            yield (results := results.with_(found))
        print(*rewrite_sections(results), sep="\n")


def write(results: Results) -> None:
    """Write all that is made of the results."""
    import plots  # noqa: PLC0415 - its matplotlib is not needed to measure

    RESULTS.write_bytes(FORM.dump_json(results, indent=1) + b"\n")
    sections = []
    if results.rewrite:
        sections += rewrite_sections(results)
        plots.draw_waits(results.rewrite, DOCS / "rewrite.svg")
    if results.install is not None:
        sections.append(install_page.section(results.install))
        plots.draw_installations(results.install, DOCS / "performance.svg")
    Path(DOCS, "performance.md").write_text("\n".join([HEAD, *sections]), encoding="utf-8")


def rewrite_sections(results: Results) -> list[str]:
    """Return the sections on upgrades."""
    return [
        rewrite_page.section(results.rewrite),
        limits_page.section(results.rewrite, results.floors, results.holds),
    ]


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--parts", type=names(INSTALL, REWRITE), default=(INSTALL, REWRITE), help="what to measure (install,rewrite)")
    add("-n", "--repetitions", type=int, default=5, help="installations: measured pairs a case, after one warm-up (5)")
    add("--durable", action="store_true", help="installations: let the server write to disk at every commit")
    add("--rows", type=numbers, default=(0, 20_000, 200_000), help="upgrades: rows of the store (0,20000,200000)")
    add("--starts", type=names(*STARTS), default=STARTS, help="upgrades: versions to start at (1.2,1.9)")
    add(
        "--ways", type=names(*WAYS, FLOOR), default=WAYS, help=f"upgrades: what to compare ({','.join((*WAYS, FLOOR))})"
    )
    add("--writes", type=numbers, default=(200,), help="upgrades: writes in a second; 0: no load (200)")
    add("--hold", type=float, help="upgrades: also hold a cutover for so many seconds (not measured)")
    add("--bindir", type=Path, help="upgrades: the programs of another PostgreSQL (the embedded one)")
    add("--no-write", action="store_true", help="print only, leave docs/ as it is")
    add("--page", action="store_true", help="measure nothing, write the page from what was measured before")
    return parser.parse_args()


def names(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    """Return what splits a text at its commas and takes no other names than these."""

    def split(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if unknown := set(found) - set(allowed):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}, expected some of {', '.join(allowed)}")
        return found

    return split


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a text."""
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    main()

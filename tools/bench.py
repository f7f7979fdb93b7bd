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
import rewrite_page
from install_page import Installations
from rewrite_page import WAYS, Run
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
        new: list[Run] = []
        for run in bench_rewrite.measure(args.starts, args.rows, args.ways):
            new.append(run)
            print(*rewrite_page.row(run), *run.problems, sep="  ", file=sys.stderr, flush=True)
            yield (results := replace(results, rewrite=rewrite_page.merged(results.rewrite, [run])))
        print(rewrite_page.table(new), rewrite_page.goals(new), sep="\n\n")


def write(results: Results) -> None:
    """Write all that is made of the results."""
    import plots  # noqa: PLC0415 - its matplotlib is not needed to measure

    RESULTS.write_bytes(FORM.dump_json(results, indent=1) + b"\n")
    sections = []
    if results.rewrite:
        sections.append(rewrite_page.section(results.rewrite))
        plots.draw_waits(results.rewrite, DOCS / "rewrite.svg")
    if results.install is not None:
        sections.append(install_page.section(results.install))
        plots.draw_installations(results.install, DOCS / "performance.svg")
    Path(DOCS, "performance.md").write_text("\n".join([HEAD, *sections]), encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--parts", type=names(INSTALL, REWRITE), default=(INSTALL, REWRITE), help="what to measure (install,rewrite)")
    add("-n", "--repetitions", type=int, default=5, help="installations: measured pairs a case, after one warm-up (5)")
    add("--durable", action="store_true", help="installations: let the server write to disk at every commit")
    add("--rows", type=numbers, default=(0, 20_000, 200_000), help="upgrades: rows of the store (0,20000,200000)")
    add("--starts", type=names(*STARTS), default=STARTS, help="upgrades: versions to start at (1.2,1.9)")
    add("--ways", type=names(*WAYS), default=WAYS, help=f"upgrades: what to compare ({','.join(WAYS)})")
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

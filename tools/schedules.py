"""Orders the statements of an online rewrite against writers' by many seeds, and plants faults; `make schedules`.

What was found is kept in docs/reliability/schedules.json, from which docs/reliability.md is written.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import structlog

import reliability_data
import reliability_page
from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import fresh
from support.postgres.engine import CHEAP, Engine
from support.visibility.planted_faults import FAULTS
from support.visibility.schedules import SERVER, Stage, schedules, staged


def main() -> None:
    """Run the schedules, plant the faults, and write the page."""
    args = arguments()
    shares = [range(share, args.schedules, args.jobs) for share in range(args.jobs)]
    with ProcessPoolExecutor(args.jobs) as pool:
        began = time.monotonic()
        outcomes = [outcome for part in pool.map(run, shares) for outcome in part]
        seconds = time.monotonic() - began
        found = list(pool.map(plant, FAULTS))
    bad = [outcome for outcome in outcomes if outcome["problem"]]
    kept = {
        "schedules": len(outcomes),
        "seconds": round(seconds),
        "turns": sum(outcome["turns"] for outcome in outcomes),
        "kills": sum(outcome["kills"] for outcome in outcomes),
        "bad": bad,
        "found": dict(zip(FAULTS, found, strict=True)),
        "commit": reliability_data.commit(),
    }
    reliability_data.write(reliability_data.SCHEDULES, kept)
    print(json.dumps(kept, indent=2))
    reliability_page.write()
    if bad or None in found:
        raise SystemExit(1)


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--schedules", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--jobs", type=int, default=2, help="servers side by side (2)")
    return parser.parse_args()


@contextmanager
def stage() -> Iterator[Stage]:
    """Start a server with a table to rewrite; the engine's events are not shown."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with private_server(settings={**CHEAP, **SERVER}) as server:
        engine = Engine.of(server)
        with fresh(engine) as databases, staged(databases) as made:
            yield made


def run(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return what comes of some schedules."""
    with stage() as made:
        return [asdict(outcome) for outcome in schedules(made, seeds)]


def plant(fault: str, most: int = 2000) -> int | None:
    """Return how many schedules it takes to find a planted fault, or nothing."""
    with FAULTS[fault](), stage() as made:
        for number, outcome in enumerate(schedules(made, range(most)), 1):
            if outcome.problem:
                return number
    return None


if __name__ == "__main__":
    main()

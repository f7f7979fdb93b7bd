"""Disturbs an online rewrite at every message to the server, and runs it again; `make sweep-online`.

Each outcome is a line of JSON in docs/reliability/faults.jsonl, from which docs/reliability.md is written. A sweep
that was stopped goes on where it was.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any

import reliability_data
import reliability_page
from reliability_data import FAULTS, POINTS, outcomes
from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import fresh
from support.postgres.engine import Engine
from support.postgres.fault_proxy import ROUND_TRIPS, Place
from support.visibility import rewriting
from support.visibility.failovers import ROWS, START
from support.visibility.fault_sweep import KINDS, SAFE, Outcome, Scene, disturb, survey

Point = tuple[str, Place]
"""A kind of fault, and where."""

REFUSED = "too many connections"

_scene: list[Scene] = []
"""Of this process."""
_open = ExitStack()


def main() -> None:
    """Try all points that were not tried yet, and write docs/reliability.md."""
    args = arguments()
    deadline = time.monotonic() + args.minutes * 60
    with ProcessPoolExecutor(args.jobs, initializer=begin) as pool:
        points, total = pool.submit(all_points, args.every, args.spread).result()
        reliability_data.write(POINTS, {"points": total})
        done = tried()
        waiting = [point for point in points if key(*point) not in done]
        print(f"{len(waiting)} of {len(points)} points are to be tried", flush=True)
        for outcome in pool.map(trial, ((point, deadline) for point in waiting)):
            if outcome:
                print(told(reliability_data.add(FAULTS, outcome)), flush=True)
    reliability_page.write()
    sys.exit(any(outcome["problem"] for outcome in outcomes(FAULTS)))


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="servers side by side (2)")
    parser.add_argument("--every", type=int, default=1, help="try every so many-th message of a phase (1)")
    parser.add_argument(
        "--spread", type=int, default=0, help="try only so many messages of each phase, and all of the cutover's"
    )
    parser.add_argument("--minutes", type=float, default=10**6, help="begin no trial after so many minutes")
    return parser.parse_args()


def begin() -> None:
    """Start a server with a store to copy, for this process."""
    server = _open.enter_context(private_server(settings=SAFE))
    engine = Engine.of(server)
    databases = _open.enter_context(fresh(engine))
    _scene.append(Scene(server=server, origin=rewriting.origin(databases, START, ROWS)))


def all_points(every: int, spread: int) -> tuple[list[Point], int]:
    """Return each kind of fault at the places of a run without a fault, in an order of chance, or some of them.

    And how many there would be if every message were tried.
    """
    surveyed = survey(_scene[0])
    phases = [(name, places) for name, kind in KINDS.items() for places in surveyed[kind.messages].values()]
    points = [(name, place) for name, places in phases for place in spaced(name, places, every)]
    random.Random(0).shuffle(points)  # noqa: S311 - nothing secret
    total = sum(len(list(spaced(name, places, 1))) for name, places in phases)
    return (list(some(surveyed, spread)) if spread else points), total


def some(surveyed: Mapping[str, Mapping[str, Sequence[Place]]], spread: int) -> Iterator[Point]:
    """Yield so many places of each phase and all of the cutover's, evenly spread, with the kinds of fault in turn."""
    for messages, phases in surveyed.items():
        names = [name for name, kind in KINDS.items() if kind.messages == messages and name != REFUSED]
        for phase, places in phases.items():
            count = len(places) if phase == "cutover" else min(spread, len(places))
            for number in range(count):
                yield names[number % len(names)], places[number * len(places) // count]
    yield from ((REFUSED, place) for place in spaced(REFUSED, surveyed[ROUND_TRIPS]["start"], 1))


def spaced(name: str, places: Sequence[Place], every: int) -> Iterator[Place]:
    """Yield every so many-th place of a phase; of connections to refuse, each one."""
    if name == REFUSED:
        connections = sorted({place.connection for place in places if place.message == 1})
        yield from (Place(connection=connection, message=0) for connection in connections)
    else:
        yield from places[::every]


def trial(given: tuple[Point, float]) -> Outcome | None:
    """Try a point, unless it is too late."""
    (name, place), deadline = given
    return disturb(_scene[0], name, place) if time.monotonic() < deadline else None


def tried() -> set[tuple[str, int, int]]:
    """Return the points that have an outcome."""
    return {(outcome["kind"], outcome["connection"], outcome["message"]) for outcome in outcomes(FAULTS)}


def key(name: str, place: Place) -> tuple[str, int, int]:
    """Return what identifies a point."""
    return name, place.connection, place.message


def told(outcome: Mapping[str, Any]) -> str:
    """Return an outcome as a line for people."""
    where = f"{outcome['kind']}, {outcome['phase'] or 'undisturbed'}"
    return f"{where}: {outcome['problem'][:500] or 'good'}"


if __name__ == "__main__":
    main()

"""Lets a standby take over during an online rewrite, in each phase of it; `make failovers`.

Each outcome is a line of JSON in docs/reliability/failovers.jsonl, from which docs/reliability.md is written. What was
tried on the commit that is checked out is not tried again.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import reliability_data
import reliability_page
from reliability_data import FAILOVERS, Outcome, commit, outcomes
from support.postgres.failover import ASYNCHRONOUS, MODES
from support.postgres.fault_proxy import ROUND_TRIPS, Place
from support.visibility.failovers import Trial, fail_over, prepared
from support.visibility.fault_sweep import PHASES, survey


def main() -> None:
    """Try all that was not tried on this commit, and write docs/reliability.md."""
    deadline = time.monotonic() + arguments().minutes * 60
    done = {outcome["name"] for outcome in outcomes(FAILOVERS) if outcome["commit"] == commit()}
    with prepared() as scene:
        for choices in ways(survey(scene)[ROUND_TRIPS]):
            if choices[0].name in done or time.monotonic() > deadline:
                continue
            outcome = next((found for trial in choices if (found := fail_over(scene, trial)).hit), None)
            if outcome:
                print(told(reliability_data.add(FAILOVERS, outcome)), flush=True)
    reliability_page.write()
    sys.exit(any(outcome["problem"] for outcome in outcomes(FAILOVERS)))


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10**6, help="begin no trial after so many minutes")
    return parser.parse_args()


def ways(places: Mapping[str, Sequence[Place]]) -> Iterator[Sequence[Trial]]:
    """Yield what is to be tried: trials of one name, of which the first one that a run's messages allow counts."""
    for phase, mode, stopped in product(PHASES, (ASYNCHRONOUS, "on"), (True, False)):
        there = places[phase]
        yield [
            Trial(name=named(phase, mode, stopped=stopped), mode=mode, stopped=stopped, place=place)
            for place in (there[len(there) // 2], there[-1], there[0])
        ]
    for mode, stopped, after in product(MODES, (True, False), (False, True)):
        moment = "commit, as it is sent" if after else "commit, before it is sent"
        name = named(moment, mode, stopped=stopped)
        yield [Trial(name=name, mode=mode, stopped=stopped, place=places["cutover"][-1], after=after)]


def named(moment: str, mode: str, *, stopped: bool) -> str:
    """Return the name of a trial."""
    return f"{mode}, old primary {'stopped' if stopped else 'goes on'}, {moment}"


def told(outcome: Outcome) -> str:
    """Return an outcome as a line for people."""
    return f"{outcome['name']}: exit code {outcome['code']}, {outcome['problem'][:500] or 'good'}"


if __name__ == "__main__":
    main()

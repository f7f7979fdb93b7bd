"""Writes how long a case of each test takes, from which tests/support/selection.py chooses for `make test`.

`make durations JUNIT="FILE..."` reads what pytest wrote with --junitxml, of one run or several; the shortest time of a
case counts, because other work on the machine only adds to it.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as ET

from support.selection import DURATIONS

WORTH_NOTING = 0.05


def main() -> None:
    """Rewrite the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("junit", nargs="+", help="what pytest wrote with --junitxml")
    averages = averaged(shortest(parser.parse_args().junit))
    DURATIONS.write_text(json.dumps(averages, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{DURATIONS}: {len(averages)} tests")


def shortest(files: Iterable[str]) -> dict[tuple[str, str], float]:
    """Return the seconds of each case, by function and id."""
    seconds: dict[tuple[str, str], float] = {}
    for file in files:
        # What pytest wrote on this machine.
        for case in ET.parse(file).iter("testcase"):  # noqa: S314
            if not {"failure", "error", "skipped"} & {child.tag for child in case}:
                name, _, case_id = case.attrib["name"].partition("[")
                path = case.attrib["classname"].removeprefix("tests.").replace(".", "/")
                key = (f"{path}.py::{name}", case_id)
                seconds[key] = min(float(case.attrib["time"]), seconds.get(key, float("inf")))
    return seconds


def averaged(seconds: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return the seconds of a case of each function, without those that take no time."""
    cases: dict[str, list[float]] = {}
    for (function, _), took in seconds.items():
        cases.setdefault(function, []).append(took)
    averages = {function: round(sum(took) / len(took), 1) for function, took in cases.items()}
    return {function: average for function, average in averages.items() if average > WORTH_NOTING}


if __name__ == "__main__":
    main()

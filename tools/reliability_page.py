"""The page on faults during an online rewrite, from what `make sweep-online` and `make schedules` have kept."""

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.postgres.databases import RELEASES
from support.visibility.fault_sweep import KINDS, PHASES
from sweep_page import table

Outcome = Mapping[str, Any]

ROOT = RELEASES.parent
OUTCOMES = ROOT / "build" / "reliability" / "outcomes.jsonl"
POINTS = ROOT / "build" / "reliability" / "points.json"
"""How many points a sweep has that leaves none out."""
SCHEDULES = ROOT / "build" / "reliability" / "schedules.json"
START = "1.12"
ROWS = 300

PAGE = """\
# Reliability of the online rewrite

Written by `make sweep-online` and `make schedules`, which repeat all of it. Do not edit it by hand.

{about}

## Disturbed at a message

A visibility store of {rows} rows is upgraded online from version {start} to 1.14, while the tests' model of Temporal's
server writes to it: starts, upserts, deletes, changed keys, some in transactions of several. The program connects
through a proxy, which disturbs one message of one connection in each trial:

- *cut before*, *cut after*: the connection ends before the message reaches the server, or after the server has answered
  and before the answer comes back. What counts as a message here is a simple query or a Sync, so each commit is one.
- *SIGKILL*, *SIGTERM*: the program gets the signal, just before the message is passed on.
- *server stopped*: the server is stopped in immediate mode and started, so that it recovers from its WAL.
- *statement timeout*, *deadlock*, *disk full*: the server's answer to a statement is that error.
- *too many connections*: the server refuses a connection.

Then `schema-migrator migrate` runs again. The writers continue all the time.

*At target* means: the disturbed run ended with the exit code and the sentence that belong to the fault; the next run
succeeded, with no error in any writer or reader; the same `pg_dump`, version row and history as after a clean run of
the vendor's tool, so nothing of the rewrite is left; every index valid and intact (amcheck); nothing left to do for
another run; and every row as its writer last wrote it, with its generated columns: none lost, doubled, outdated or
resurrected. A write that a stopped server did not acknowledge may or may not be there, but a transaction must be there
completely or not at all.

### Points tried, by phase

A cell with one number: so many points, all at target.

{phases}

{good} of {total} points were at target. A full sweep has {points} points. During the sweep the writers wrote
{writes:,} times. If the server was not stopped, the longest write took {longest:.2f} s.

### What the disturbed run said

Names and numbers are left out.

{sentences}

## Ordered by chance

The engine's own statements (note a batch, copy it, replay the log, compare, count, take the lock, replay the rest) run
on a small table. Before each of them a scheduler decides by a seed which statements of two writers come first, and
whether the engine is killed there. The writers insert, upsert, update, change keys, delete and COPY, alone and in
transactions of all three levels, with savepoints, rollbacks and prepared transactions. At the end the table is locked,
and the copy has to be what the table is. A failing schedule comes back with its seed.

{schedules}

To see that schedules find faults, each of these was planted in turn.

{found}

## To repeat it

```sh
make sweep-online
make schedules
```
"""
NAMES = re.compile(r"\S+@\S+|\btemporal_\w+|\b\d+(\.\d+)?\b")
LONGEST = 110


def write() -> None:
    """Write docs/reliability.md from what was kept."""
    (ROOT / "docs" / "reliability.md").write_text(page(outcomes(), kept(POINTS), kept(SCHEDULES)), encoding="utf-8")


def outcomes() -> list[Outcome]:
    """Return the outcomes of the sweep."""
    lines = OUTCOMES.read_text(encoding="utf-8").splitlines() if OUTCOMES.exists() else []
    return [json.loads(line) for line in lines]


def kept(path: Path) -> Mapping[str, Any]:
    """Return what a file has, or nothing."""
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def page(outcomes: Sequence[Outcome], points: Mapping[str, Any], schedules: Mapping[str, Any]) -> str:
    """Return the whole page."""
    hits = [outcome for outcome in outcomes if outcome["hit"]]
    return PAGE.format(
        about=table(("what", "which"), about().items()),
        rows=ROWS,
        start=START,
        phases=phases(hits),
        good=sum(not outcome["problem"] for outcome in hits),
        total=len(hits),
        points=f"{points.get('points', 0):,}",
        writes=sum(outcome["writes"] for outcome in hits),
        longest=max((outcome["longest"] for outcome in hits if outcome["kind"] != "server stopped"), default=0),
        sentences=sentences(hits),
        schedules=ordered(schedules),
        found=table(("planted fault", "found by schedule number"), schedules.get("found", {}).items()),
    )


def ordered(schedules: Mapping[str, Any]) -> str:
    """Return the table of schedules."""
    names = {
        "schedules": "schedules",
        "turns": "statements of writers",
        "kills": "kills of the engine",
        "seconds": "seconds",
    }
    counts = [(name, f"{schedules.get(key, 0):,}") for key, name in names.items()]
    bad = len(schedules.get("bad", ()))
    return table(("what", "how many"), [*counts, ("copies that were not what the table was", bad)])


def about() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "Python": sys.version.split()[0],
        "CPUs": str(os.cpu_count()),
    }


def phases(outcomes: Sequence[Outcome]) -> str:
    """Return the table of points by phase and kind."""
    tried = Counter((outcome["phase"], outcome["kind"]) for outcome in outcomes)
    good = Counter((outcome["phase"], outcome["kind"]) for outcome in outcomes if not outcome["problem"])
    rows = [(phase, *(cell(tried[phase, kind], good[phase, kind]) for kind in KINDS)) for phase in PHASES]
    return table(("phase", *KINDS), rows)


def cell(tried: int, good: int) -> str:
    """Return a number, and beside it how many were at target if that is another."""
    if not tried:
        return ""
    return str(tried) if tried == good else f"{tried}, at target {good}"


def sentences(outcomes: Sequence[Outcome]) -> str:
    """Return the table of ends by kind."""
    ends = Counter((outcome["kind"], outcome["code"], anonymous(outcome["said"])) for outcome in outcomes)
    rows = [(kind, end, said or "nothing", count) for (kind, end, said), count in sorted(ends.items())]
    return table(("fault", "exit code", "error", "points"), rows)


def anonymous(sentence: str) -> str:
    """Return a sentence without names and numbers, cut where it gets long."""
    plain = NAMES.sub("…", sentence).replace("|", "/")
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}…"

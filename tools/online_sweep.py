"""Kills an online rewrite under load at many moments, and runs it again; `make sweep-online`.

The results are kept as lines of JSON in build/sweep-online, from which docs/sweep-online.md is written.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import RELEASES, fresh
from support.postgres.engine import Engine
from support.visibility import rewriting
from support.visibility.online_sweep import SAFE, Outcome, sweep
from sweep_page import table

ROOT = RELEASES.parent
FOUND = ROOT / "build" / "sweep-online"
STARTS = ("1.2", "1.9")
PAGE = """\
# Kill sweep of the online rewrite

Written by `make sweep-online`, which repeats all trials. Do not edit it by hand.

{about}

A visibility store of {rows:,} rows is upgraded online from version 1.2 or 1.9 to 1.14 while the tests' model of
Temporal's server writes 200 times a second: starts, upserts, deletes, changed keys, some in transactions of several. At
a random moment of the run something is killed: our process (SIGKILL), one of our connections
(`pg_terminate_backend`), or the server (stopped in immediate mode, and started again). The writers continue. Then
`schema-migrator migrate` runs again, while they continue.

*At target* means: no error in that run, in any writer or in any reader; the same `pg_dump`, version row and history as
after a clean run of the vendor's tool, so nothing of the rewrite is left; every index valid and intact (amcheck);
nothing left to do for another run; and every row as its writer last wrote it, with its generated columns: none lost,
doubled, outdated or resurrected. A write that a stopped server did not acknowledge may or may not be there, but a
transaction must be there completely or not at all.

{summary}

The next run reached the target after {good} of {total} kills. {writes:,} writes were made during the sweep. If the
server was not stopped, the longest took {longest:.2f} s.

## When it was killed

The last event that the run had logged before.

{events}

## To repeat it

```
make sweep-online
```
"""
KINDS = {"client": "our process", "connection": "one of our connections", "server": "the server"}


def main() -> None:
    """Try all moments and write docs/sweep-online.md."""
    args = arguments()
    began = time.monotonic()
    FOUND.mkdir(parents=True, exist_ok=True)
    for start in STARTS:
        with Path(FOUND, f"{start}.jsonl").open("w", encoding="utf-8") as out:
            for outcome in outcomes(args, start):
                print(json.dumps(asdict(outcome)), file=out, flush=True)
                came = outcome.problem[:500] or "good"
                print(start, outcome.kind, f"{outcome.moment:.1f} s", outcome.event, came, flush=True)
    text = page(about(args, time.monotonic() - began), args.rows, found())
    (ROOT / "docs" / "sweep-online.md").write_text(text, encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--moments", type=int, default=8, help="of each kind of kill and each start (8)")
    parser.add_argument("--rows", type=int, default=20_000, help="of the store (20000)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    return parser.parse_args()


def outcomes(args: argparse.Namespace, start: str) -> Iterator[Outcome]:
    """Yield what comes of each kill, on a server of its own."""
    with private_server(settings=SAFE) as server:
        engine = Engine(host=server.host, port=server.port, user=server.user, password=server.password)
        with fresh(engine) as databases:
            origin = rewriting.origin(databases, start, args.rows)
            yield from sweep(origin, server, start, args.moments, args.seed)


def found() -> list[Mapping[str, Any]]:
    """Return all outcomes."""
    files = [Path(FOUND, f"{start}.jsonl") for start in STARTS]
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def about(args: argparse.Namespace, seconds: float) -> dict[str, str]:
    """Return what the figures depend on."""
    ours = Path(sys.executable).with_name("schema-migrator")
    version = subprocess.run([str(ours), "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "ours": version,
        "Python": sys.version.split()[0],
        "CPUs": str(os.cpu_count()),
        "seed": str(args.seed),
        "minutes": f"{seconds / 60:.0f}",
    }


def page(facts: Mapping[str, str], rows: int, outcomes: Sequence[Mapping[str, Any]]) -> str:
    """Return the whole page."""
    return PAGE.format(
        about=table(("what", "which"), facts.items()),
        rows=rows,
        summary=summary(outcomes),
        good=sum(not one["problem"] for one in outcomes),
        total=len(outcomes),
        writes=sum(one["writes"] for one in outcomes),
        longest=max((one["longest"] for one in outcomes if one["kind"] != "server"), default=0),
        events=table(("last event", "kills"), Counter(one["event"] or "none yet" for one in outcomes).most_common()),
    )


def summary(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of kills by start and kind."""
    head = ("from", "killed", "moments", "seconds after the start", "before its end", "at target after one more run")
    rows = []
    for (start, kind), group in groupby(outcomes, lambda one: (one["start"], one["kind"])):
        ones = list(group)
        moments = [one["moment"] for one in ones]
        good = sum(not one["problem"] for one in ones)
        spread = f"{min(moments):.1f} to {max(moments):.1f}"
        rows.append((start, KINDS[kind], len(ones), spread, sum(not one["over"] for one in ones), good))
    return table(head, rows)


if __name__ == "__main__":
    main()

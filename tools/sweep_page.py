"""The page on the sweep, from its results; every function but `about` takes values and returns text."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from support.postgres.engine import wheel

Found = Mapping[str, Any]

PAGE = """\
# Kill sweep

Written by `make sweep`, which repeats all trials. Do not edit it by hand.

{about}

## The vendor's tool stopped at every statement, then ours

The official chart's two commands, `temporal-sql-tool setup-schema -v 0.0` and `update-schema`, run on an empty
database. A proxy stops them at one statement, including the bookkeeping: *before* it reaches the server, or *after*
it was executed but before the answer came back. From then on the tool has no connection, as if it had been killed.
Then it runs again, from the start and undisturbed, zero to three times. Then `schema-migrator migrate` runs.

*At target* means for the vendor's tool that its last run says so. For ours it means: no error, the same `pg_dump` as
after a clean run of the vendor's tool, the same version row and `namespace_metadata`, no wrong row in the
history, no difference found by `verify`, and nothing left to do for another run.

{summary}

At {points} points, ours was at target after {ours} of {tries} stops and retries. That took {migrated} migrations,
each in its own database: {known} times the state that was left equalled one migrated before, by dump and records, and
shares its result.
The vendor's two commands alone, after up to four attempts: {vendor} of {points} points, {percent} %.

## Where the vendor's tool gets stuck

The points of each version after which three more runs of the vendor's tool did not reach the target, and its error.

{stuck}
{own}
## To repeat it

```
make sweep
```
"""
OWN = """
## Ours stopped at every message, then again

`migrate` itself loses a connection at a message that can have an effect (simple queries, executions and Syncs, on
both of its connections), in an empty database and in an upgrade of tables with rows, alternately before and after the
message. The next run must reach the target as above, with the same rows as after an upgrade by the vendor's tool.
After a cut, an installation must be there completely or not at all.

{own}
"""


def about(processes: int, step: int, seconds: float) -> dict[str, str]:
    """Return what the figures depend on."""
    ours = Path(sys.executable).with_name("schema-migrator")
    version = subprocess.run([str(ours), "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    with wheel() as engine, engine.connect() as conn:
        row = conn.execute("SELECT split_part(version(), ' ', 2)").fetchone()
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "ours": version,
        "vendor": "temporal-sql-tool of 1.29.1 and 1.32.2",
        "PostgreSQL": row[0] if row else "",
        "Python": sys.version.split()[0],
        "processes": f"{processes} on {os.cpu_count()} CPUs",
        "messages of ours": f"one of {step}" if step > 1 else "all",
        "minutes": f"{seconds / 60:.0f}",
    }


def page(about: Mapping[str, str], found: Sequence[Found], own: Sequence[Found]) -> str:
    """Return the whole page."""
    last = [one for one in found if one["retries"] == max(other["retries"] for other in found)]
    vendor = sum(one["vendor"] for one in last)
    return PAGE.format(
        about=table(("what", "which"), about.items()),
        summary=summary(found),
        points=len(last),
        tries=len(found),
        ours=sum(not one["problem"] for one in found),
        migrated=sum(not one["known"] for one in found),
        known=sum(one["known"] for one in found),
        vendor=vendor,
        percent=round(100 * vendor / len(last)),
        stuck=stuck(last),
        own=OWN.format(own=own_summary(own)) if own else "",
    )


def summary(found: Sequence[Found]) -> str:
    """Return the table of points by release, store, before or after, and retries."""
    head = ("release", "store", "cut", "vendor's retries", "points", "vendor at target", "ours at target")
    rows = []
    for names, group in grouped(found, lambda one: (*where(one), cut(one["point"]), one["retries"])):
        ones = list(group)
        rows.append((*names, len(ones), sum(one["vendor"] for one in ones), sum(not one["problem"] for one in ones)))
    return table(head, rows)


def stuck(last: Sequence[Found]) -> str:
    """Return the table of versions that the vendor's tool does not get past."""
    head = ("release", "store", "version", "points", "stuck", "error")
    rows = []
    for names, group in grouped(last, lambda one: (*where(one), number(one["point"]["version"]))):
        ones = list(group)
        says = Counter(complaint(one["stuck"]) for one in ones if not one["vendor"])
        if says:
            version = str(ones[0]["point"]["version"])
            rows.append((*names[:2], version, len(ones), says.total(), "; ".join(sorted(says))))
    return table(head, rows)


def own_summary(own: Sequence[Found]) -> str:
    """Return the table of our own stops."""
    head = ("release", "store", "from", "cut", "stops", "ours at target after one more run")
    rows = []
    for names, group in grouped(own, lambda one: (one["release"], one["store"], one["start"], cut(one))):
        ones = list(group)
        rows.append((*names, len(ones), sum(not one["problem"] for one in ones)))
    return table(head, rows)


def grouped(found: Iterable[Found], by: Any) -> Iterable[tuple[tuple[Any, ...], Iterable[Found]]]:  # noqa: ANN401
    """Sort and group."""
    return groupby(sorted(found, key=by), by)


def where(one: Found) -> tuple[str, str]:
    """Return the release and the store."""
    return one["point"]["release"], one["point"]["store"]


def cut(point: Found) -> str:
    """Say where a cut was."""
    return "after" if point["after"] else "before"


def number(version: str) -> tuple[int, ...]:
    """Return what versions are sorted by; the set-up comes first."""
    return tuple(int(part) for part in version.split(".")) if version[0].isdigit() else ()


def complaint(line: str) -> str:
    """Return the error out of a line of the vendor's log."""
    match = re.search(r'"error": "((?:[^"\\]|\\.)*)"', line)
    text = match[1].replace('\\"', '"') if match else line
    return re.sub(r"^error executing statement: pq: | \(\w{5}\)$", "", text)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table whose columns are of one width."""
    texts = [tuple(map(str, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in texts]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)

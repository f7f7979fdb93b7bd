"""The page on the online rewrite's reliability, from what the tools have found; each run of one writes it."""

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

from reliability_data import (
    FAILOVERS,
    FAULTS,
    MUTANTS,
    POINTS,
    ROOT,
    SABOTAGES,
    SCHEDULES,
    SITUATIONS,
    Outcome,
    anonymous,
    explained,
    outcomes,
    read,
)
from support.postgres.failover import MODES
from support.sabotages import Sabotage, sabotages
from support.visibility import situations
from support.visibility.failovers import ROWS, START
from support.visibility.fault_sweep import KINDS, PHASES
from sweep_page import table

PAGE = """\
# Reliability of the online rewrite

Written by `make sweep-online`, `make failovers`, `make situations`, `make schedules`, `make sabotages` and
`make mutants`, which repeat all of it. Do not edit it by hand. What they have found is in [reliability](reliability),
each trial with its commit.

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

## Another server takes over

A primary and its standby, made by `pg_basebackup`, with the same store and the same writers. At a message of a run the
standby is promoted, and the old primary has just been stopped, or goes on. `SQL_HOST` names both servers, with
`target_session_attrs=read-write`, so that new connections of the run lead to the new primary. Then
`schema-migrator migrate` runs on the new primary, with writers there.

*Replication* is asynchronous, or what `synchronous_commit` says. *At target* means: the disturbed run said what
happened, or succeeded and the new primary was at the target; with synchronous replication the new primary had every
write that had been acknowledged; the next run succeeded; and the new primary is as described above.

{failovers}

{failed_over} of {all_failovers} trials were at target.

{failover_ends}

## Bad situations

On a server that is like one in use, a store of {situation_rows:,} rows is upgraded online while users read and write.
The server is in a situation in which the rewrite could hurt them. `--wait-timeout` is {patience} s. Names and numbers
are left out.

{situations}

## Ordered by chance

The engine's own statements (note a batch, copy it, replay the log, compare, count, take the lock, replay the rest) run
on a small table. Before each of them a scheduler decides by a seed which statements of two writers come first, and
whether the engine is killed there. The writers insert, upsert, update, change keys, delete and COPY, alone and in
transactions of all three levels, with savepoints, rollbacks and prepared transactions. At the end the table is locked,
and the copy has to be what the table is. A failing schedule comes back with its seed.

{schedules}

To see that schedules find faults, each of these was planted in turn.

{found}

## How good the tests are

### Faults by hand

Faults were planted in a copy of the program, one at a time: a lock that is not taken, a log entry that is dropped, a
comparison that is off by one, a check that always passes, a first error that is lost. Then the tests that have to find
the fault ran. Of {sabotages} faults they found {found_sabotages}.

{by_file}

{missed}

### Faults by machine

In the modules that decide and need no server, mutmut changed one place at a time: another operator, another constant,
no value, a text with other letters. The unit tests, which need no server either, ran on each change. They found
{found_mutants:,} of {mutants:,} changes.

{by_module}

{survivors}

## To repeat it

```sh
make sweep-online
make failovers
make situations
make schedules
make sabotages
make mutants
```
"""


def write() -> None:
    """Write docs/reliability.md."""
    (ROOT / "docs" / "reliability.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the whole page."""
    tried, failovers = outcomes(FAULTS), outcomes(FAILOVERS)
    hits = [outcome for outcome in tried if outcome["hit"]]
    return PAGE.format(
        about=table(("what", "which"), about([*tried, *failovers]).items()),
        rows=ROWS,
        start=START,
        phases=phases(hits),
        good=good(hits),
        total=len(hits),
        points=f"{read(POINTS).get('points', 0):,}",
        writes=sum(outcome["writes"] for outcome in hits),
        longest=max((outcome["longest"] for outcome in hits if outcome["kind"] != "server stopped"), default=0),
        sentences=ends("kind", hits),
        failovers=replicated(failovers),
        failed_over=good(failovers),
        all_failovers=len(failovers),
        failover_ends=ends("mode", failovers),
        situation_rows=situations.ROWS,
        patience=situations.PATIENCE,
        situations=in_situations(),
        schedules=ordered(),
        found=table(("planted fault", "found by schedule number"), read(SCHEDULES).get("found", {}).items()),
        sabotages=len(planted()),
        found_sabotages=sum(bool(by) for _, by in planted()),
        by_file=by_file(),
        missed="\n".join(f"- Not found: {sabotage.what}" for sabotage, by in planted() if not by),
        mutants=sum(module["mutants"] for module in read(MUTANTS).values()),
        found_mutants=sum(module["found"] for module in read(MUTANTS).values()),
        by_module=by_module(),
        survivors="\n".join(survivors()),
    )


def about(found: Sequence[Outcome]) -> dict[str, str]:
    """Return what the figures depend on."""
    tried = Counter(outcome["commit"] for outcome in found)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "Python": sys.version.split()[0],
        "CPUs": str(os.cpu_count()),
        "commits": ", ".join(f"{name} ({count})" for name, count in tried.items()),
    }


def phases(found: Sequence[Outcome]) -> str:
    """Return the table of points by phase and kind."""
    rows = [(phase, *(cell(having(found, phase=phase, kind=kind)) for kind in KINDS)) for phase in PHASES]
    return table(("phase", *KINDS), rows)


def replicated(found: Sequence[Outcome]) -> str:
    """Return the table of failovers by phase, replication, and what became of the old primary."""
    ways = [(mode, stopped) for mode in MODES for stopped in (True, False)]
    head = [f"{mode}, {'stopped' if stopped else 'goes on'}" for mode, stopped in ways]
    rows = [
        (phase, *(cell(having(found, phase=phase, mode=mode, stopped=stopped)) for mode, stopped in ways))
        for phase in PHASES
    ]
    return table(("phase", *head), rows)


def planted() -> list[tuple[Sabotage, str]]:
    """Return the faults by hand that were planted, each with the test that found it, or nothing."""
    kept = read(SABOTAGES)
    return [(sabotage, kept[sabotage.what]["found_by"]) for sabotage in sabotages() if sabotage.what in kept]


def by_file() -> str:
    """Return the table of faults by hand by the file that they change."""
    tried = Counter(sabotage.file for sabotage, _ in planted())
    found = Counter(sabotage.file for sabotage, by in planted() if by)
    return table(("file", "faults", "found"), [(file, count, found[file]) for file, count in tried.items()])


def in_situations() -> str:
    """Return the table of situations: how runs ended in each."""
    rows = [
        (
            kept["situation"],
            kept["role"],
            kept["code"],
            kept["said"] or "at target",
            kept["held_back"],
            f"{kept['longest']:.2f} s",
            "**no**" if kept["problem"] else "yes",
        )
        for kept in read(SITUATIONS).values()
    ]
    return table(("situation", "role", "exit code", "error", "held back", "longest write", "as expected"), rows)


def by_module() -> str:
    """Return the table of mutants by module."""
    rows = [
        (
            name.removeprefix("src/schema_migrator/"),
            kept["mutants"],
            kept["found"],
            share(kept["found"], kept["mutants"]),
        )
        for name, kept in read(MUTANTS).items()
    ]
    return table(("module", "changes", "found", "share"), rows)


def share(part: int, whole: int) -> str:
    """Return a part as a percentage, rounded down, so that only all is 100 %."""
    return f"{100 * part // whole} %" if whole else ""


def survivors() -> list[str]:
    """Return a line for each change that no test found: the line, what it became, and why no test has to find it."""
    return [
        f"- {name.rpartition('/')[2]}, `{mutant['before']}` became `{mutant['after']}`:"
        f" {explained(mutant) or 'not explained'}"
        for name, kept in read(MUTANTS).items()
        for mutant in kept["survivors"]
    ]


def having(found: Sequence[Outcome], **values: object) -> list[Outcome]:
    """Return the outcomes that have some values."""
    return [outcome for outcome in found if all(outcome[name] == value for name, value in values.items())]


def good(found: Sequence[Outcome]) -> int:
    """Return how many outcomes are without a problem."""
    return sum(not outcome["problem"] for outcome in found)


def cell(found: Sequence[Outcome]) -> str:
    """Return a number, and beside it how many were at target if that is another."""
    if not found:
        return ""
    return str(len(found)) if good(found) == len(found) else f"{len(found)}, at target {good(found)}"


def ends(name: str, found: Sequence[Outcome]) -> str:
    """Return the table of ends by kind of fault, or by mode of replication."""
    counted = Counter((outcome[name], outcome["code"], anonymous(outcome["said"])) for outcome in found)
    rows = [(kind, end, said or "nothing", count) for (kind, end, said), count in sorted(counted.items())]
    return table(("fault" if name == "kind" else "replication", "exit code", "error", "trials"), rows)


def ordered() -> str:
    """Return the table of schedules."""
    found = read(SCHEDULES)
    names = {
        "schedules": "schedules",
        "turns": "statements of writers",
        "kills": "kills of the engine",
        "seconds": "seconds",
    }
    counts = [(name, f"{found.get(key, 0):,}") for key, name in names.items()]
    return table(
        ("what", "how many"), [*counts, ("copies that were not what the table was", len(found.get("bad", ())))]
    )

"""A held cutover under load: everything but the cutover is done and kept up to date, then another run asks for it."""

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bench_install import BenchError
from bench_store import MeasuredStore
from rewrite_page import Figures
from support.program.command import await_event, finish, start_cli
from support.vendor.kill_sweep import drop
from support.visibility.load import Traffic
from support.visibility.rewriting import events


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A store whose cutover was held for some seconds while there were writes: `asked` to be written in a second.

    `finishing`: the seconds of the run that asked for the cutover, from its start to its end. `locked`: those of the
    table's lock.
    """

    start: str
    rows: int
    server: str
    asked: float
    held: float
    finishing: float
    locked: float
    writer: Figures
    problems: list[str]

    @property
    def key(self) -> tuple[str, int, str, float, float]:
        """What it is sorted and replaced by."""
        return self.server, self.rows, self.start, self.asked, self.held


def measure(store: MeasuredStore, traffic: Traffic, held: float, where: str) -> Hold:
    """Hold a cutover for so long, then run another migrate; `where` tells which of the rows the load knows."""
    origin, database = store.origin, store.origin.copy()
    with origin.load(database, traffic) as load:
        holder = start_cli(origin.env(database), "migrate", "--rewrite", "online", "--hold-cutover")
        try:
            await_event(holder, "online.holding")
            time.sleep(held)
            began = time.perf_counter()
            asking = finish(start_cli(origin.env(database), "migrate", "--rewrite", "online"))
            finishing = time.perf_counter() - began
            ended = finish(holder)
        finally:
            kill(holder)
        time.sleep(2)
    for run in (asking, ended):
        if run.code:
            raise BenchError(run.stderr)
    found = Hold(
        start=store.start,
        rows=store.rows,
        server=store.server,
        asked=traffic.writes,
        held=held,
        finishing=finishing,
        locked=locked(events(ended)),
        writer=Figures(done=load.waits.done, longest=load.waits.longest, total=load.waits.total),
        problems=origin.problems(database, load, where=where),
    )
    drop(origin.databases, database)
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """End a run that still runs."""
    if process.poll() is None:
        process.kill()
        finish(process)


def locked(logged: list[Mapping[str, object]]) -> float:
    """Return how long the table was locked."""
    return next(float(str(event["locked_seconds"])) for event in logged if event["event"] == "online.cut_over")

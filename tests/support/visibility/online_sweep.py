"""An online rewrite under load that is killed at a moment, and run again, and what comes of it."""

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from schema_migrator.demo.embedded_postgres import Server
from support.program.command import Completed, finish
from support.vendor.kill_sweep import drop
from support.visibility.load import Traffic
from support.visibility.rewriting import ONLINE, Origin, events

PAUSE = 0.5
"""Seconds that the server goes on working after a kill, and after the end."""
SAFE = {"synchronous_commit": "on", "full_page_writes": "on"}
"""Settings with which what was acknowledged outlives the end of the server's processes."""
BACKENDS = """
SELECT pid FROM pg_stat_activity
WHERE datname = %s AND application_name LIKE 'schema-migrator/%%' ORDER BY pid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A run of ours at work on a copy."""

    origin: Origin
    server: Server
    database: str
    process: subprocess.Popen[str]
    chance: random.Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a kill: `problem` is empty where the next run made all good.

    `event` is the last one before the kill, `over` tells that the run had ended before, `writes` and `longest`
    (seconds) are the server's.
    """

    start: str
    kind: str
    moment: float
    event: str
    over: bool
    problem: str
    writes: int
    longest: float


def kill_client(scene: Scene) -> None:
    """Kill our process."""
    scene.process.kill()


def kill_backend(scene: Scene) -> None:
    """End one of our connections in the server."""
    with scene.origin.databases.admin() as admin:
        pids = [pid for (pid,) in admin.execute(BACKENDS, [scene.database]).fetchall()]
        if pids:
            admin.execute("SELECT pg_terminate_backend(%s)", [scene.chance.choice(pids)])


def kill_server(scene: Scene) -> None:
    """Stop the server at once, and start it: it recovers from what it has written."""
    scene.server.stop("immediate")
    scene.server.start()


KILLS: dict[str, Callable[[Scene], None]] = {
    "client": kill_client,
    "connection": kill_backend,
    "server": kill_server,
}


def sweep(origin: Origin, server: Server, start: str, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Yield what comes of each kind of kill at so many moments, spread at random over a whole run."""
    whole = length(origin)
    for kind in KILLS:
        for number in range(count):
            chance = random.Random(f"{seed} {start} {kind} {number}")  # noqa: S311 - nothing secret
            yield kill(origin, server, start, kind, whole * (number + chance.random()) / count, chance)


def length(origin: Origin) -> float:
    """Return the seconds of a run under load that nobody disturbs."""
    database = origin.copy()
    with origin.load(database, Traffic()):
        began = time.monotonic()
        ended = origin.run(database)
        seconds = time.monotonic() - began
    assert ended.code == 0, ended.stderr
    drop(origin.databases, database)
    return seconds


def kill(origin: Origin, server: Server, start: str, kind: str, moment: float, chance: random.Random) -> Outcome:
    """Kill a run that many seconds after its start, run it again, and compare."""
    database = origin.copy()
    # Only a server that stops may end the writers' connections.
    traffic = Traffic(transactions=0.2, tolerant=kind == "server", seed=chance.randrange(10**6))
    with origin.load(database, traffic) as load:
        process = origin.migrate(database, *ONLINE)
        scene = Scene(origin=origin, server=server, database=database, process=process, chance=chance)
        time.sleep(moment)
        over = process.poll() is not None
        KILLS[kind](scene)
        killed = finish(process)
        time.sleep(chance.choice((0, PAUSE)))  # at once, or when all that was sent has ended
        again = origin.run(database)
        time.sleep(PAUSE)
    wrong = [*ended_badly(again), *origin.problems(database, load), *origin.broken_indexes(database)]
    drop(origin.databases, database)
    return Outcome(
        start=start,
        kind=kind,
        moment=moment,
        event=last_event(killed),
        over=over,
        problem="; ".join(wrong),
        writes=load.waits.done,
        longest=load.waits.longest,
    )


def ended_badly(ended: Completed) -> list[str]:
    """Return what is wrong with the end of a run."""
    return [f"the next run ended with {ended.code}: {ended.stderr[-500:]}"] if ended.code else []


def last_event(ended: Completed) -> str:
    """Return the name of the last event, errors aside; nothing where there was none."""
    names = [str(event["event"]) for event in events(ended) if event.get("level") != "error"]
    return names[-1] if names else ""

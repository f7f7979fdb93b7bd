"""An online rewrite under load that is disturbed at one message to the server, and what the next run makes of it."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from subprocess import Popen

from schema_migrator.demo.embedded_postgres import Server
from support.postgres.fault_proxy import ROUND_TRIPS, STATEMENTS, Fault, FaultProxy, Message, Place
from support.program.command import Completed, finish
from support.vendor.kill_sweep import drop
from support.visibility.load import Traffic
from support.visibility.rewriting import ONLINE, Origin, events

SAFE = {"synchronous_commit": "on", "full_page_writes": "on"}
"""Settings with which what was acknowledged outlives the end of the server's processes."""
BROKE = r"connection to \S+ broke|cannot connect|server closed the connection|is starting up|shutting down"
PHASES = ("start", "checks", "backfill", "index builds", "drain", "proof", "last drain", "cutover", "removal")
"""Of a run, in their order. The start is all until the pool of workers, the cutover what runs under its lock."""
BEGINS = {
    "online.connections": "checks",
    "online.started": "backfill",
    "online.copied": "index builds",
    "online.indexed": "drain",
    "online.counting": "proof",
    "online.verified": "last drain",
    "online.cut_over": "removal",
}
"""The phase that begins with an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault: at which messages, what happens, and how the disturbed run may end.

    `ends` gives for each exit code what the error has to say. `act` gets the run's process and the server.
    """

    messages: str = ROUND_TRIPS
    after: bool = False
    error: tuple[str, str] | None = None
    act: Callable[["Popen[str]", Server], None] | None = None
    ends: Mapping[int, str]
    tolerant: bool = False


def stop_server(_: "Popen[str]", server: Server) -> None:
    """Stop the server at once, and start it: it recovers from what it has written."""
    server.stop("immediate")
    server.start()


KINDS: Mapping[str, Kind] = {
    "cut before": Kind(ends={0: "", 1: BROKE}),
    "cut after": Kind(after=True, ends={0: "", 1: BROKE}),
    "SIGKILL": Kind(act=lambda process, _: process.kill(), ends={-9: ""}),
    "SIGTERM": Kind(act=lambda process, _: process.terminate(), ends={0: "", 143: "stopped by a signal"}),
    "server stopped": Kind(act=stop_server, ends={0: "", 1: BROKE}, tolerant=True),
    "statement timeout": Kind(
        messages=STATEMENTS, error=("57014", "canceling statement due to statement timeout"), ends={0: "", 1: "timeout"}
    ),
    "deadlock": Kind(messages=STATEMENTS, error=("40P01", "deadlock detected"), ends={0: "", 1: "deadlock"}),
    "disk full": Kind(
        messages=STATEMENTS,
        error=("53100", 'could not extend file "base/1/2": No space left on device'),
        ends={0: "", 32: "space"},
    ),
    "out of memory": Kind(messages=STATEMENTS, error=("53200", "out of memory"), ends={0: "", 1: "memory"}),
    "too many connections": Kind(error=("53300", "sorry, too many clients already"), ends={0: "", 1: "too many"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a fault: `problem` is empty where the run ended as it may and the next one made all good.

    `hit` is False where the run had no such message. `statement` is the last one that was sent in the connection,
    `said` the error, `writes` and `longest` (seconds) are those of the server's writers.
    """

    kind: str
    connection: int
    message: int
    hit: bool
    phase: str
    statement: str
    code: int
    said: str
    problem: str
    writes: int
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A server with a store to copy."""

    server: Server
    origin: Origin


def survey(scene: Scene) -> Mapping[str, Mapping[str, Sequence[Place]]]:
    """Return the places of a run that nobody disturbs, by the kinds of messages that are counted, and by phase."""
    ended, messages = undisturbed(scene)
    return {kinds: by_phase(ended, messages, kinds) for kinds in (ROUND_TRIPS, STATEMENTS)}


def undisturbed(scene: Scene) -> tuple[Completed, Sequence[Message]]:
    """Return the end of a run that nobody disturbs, and its messages."""
    databases, database = scene.origin.databases, scene.origin.copy()
    with FaultProxy(databases.host, databases.port, kinds=ROUND_TRIPS + STATEMENTS) as proxy:
        ended = scene.origin.run(database, **through(proxy))
    assert ended.code == 0, ended.stderr
    drop(databases, database)
    return ended, proxy.messages


def by_phase(ended: Completed, messages: Sequence[Message], kinds: str) -> Mapping[str, Sequence[Place]]:
    """Return the place of each message of some kinds, by phase."""
    found = defaultdict[str, list[Place]](list)
    for message, place in placed(messages, kinds):
        found[phase(ended, message)].append(place)
    return found


def placed(messages: Sequence[Message], kinds: str) -> Iterator[tuple[Message, Place]]:
    """Yield each message of some kinds with its place."""
    counts = Counter[int]()
    for message in messages:
        if message.kind in kinds:
            counts[message.connection] += 1
            yield message, Place(connection=message.connection, message=counts[message.connection], kinds=kinds)


def disturb(scene: Scene, kind: str, place: Place) -> Outcome:
    """Disturb a run, let another follow, and compare what is there with what has to be."""
    origin, fault = scene.origin, KINDS[kind]
    database = origin.copy()
    traffic = Traffic(writes=50, reads=5, transactions=0.2, tolerant=fault.tolerant, seed=place.message)
    with origin.load(database, traffic) as load:
        ended, hit = run_disturbed(scene, database, fault, place)
        before = load.waits.done
        again = origin.run(database)
        stalled = load.waits.done == before
    wrong = [
        *ended_wrongly(ended, fault, disturbed=hit is not None),
        *next_failed(again),
        *(["the writers stood still"] if stalled else []),
        *origin.problems(database, load),
        *origin.broken_indexes(database),
    ]
    drop(origin.databases, database)
    return Outcome(
        kind=kind,
        connection=place.connection,
        message=place.message,
        hit=hit is not None,
        phase=phase(ended, hit) if hit else "",
        statement=" ".join(hit.statement.split())[:100] if hit else "",
        code=ended.code,
        said=said(ended),
        problem="; ".join(wrong),
        writes=load.waits.done,
        longest=round(load.waits.longest, 3),
    )


def run_disturbed(scene: Scene, database: str, kind: Kind, place: Place) -> tuple[Completed, Message | None]:
    """Run ours through a proxy with the fault; return its end, and the fault if it happened."""
    running: list[Popen[str]] = []

    def act() -> None:
        if kind.act:
            kind.act(running[0], scene.server)

    fault = Fault(place=place, after=kind.after, error=kind.error, act=act if kind.act else None)
    databases = scene.origin.databases
    with FaultProxy(databases.host, databases.port, fault) as proxy:
        running.append(scene.origin.migrate(database, *ONLINE, **through(proxy)))
        ended = finish(running[0])
        return ended, proxy.hit


def through(proxy: FaultProxy) -> dict[str, str]:
    """Return the variables with which ours connects through a proxy."""
    return {"SQL_HOST": "127.0.0.1", "SQL_PORT": str(proxy.port)}


def ended_wrongly(ended: Completed, kind: Kind, *, disturbed: bool) -> list[str]:
    """Return what is wrong with the end of a disturbed run; one that nobody disturbed has to succeed."""
    ends = kind.ends if disturbed else {0: ""}
    if ended.code in ends and re.search(ends[ended.code], said(ended)):
        return []
    return [f"the disturbed run ended with {ended.code}: {ended.stderr[-500:]}"]


def next_failed(ended: Completed) -> list[str]:
    """Return that the run after a disturbed one failed, if it did."""
    return [f"the next run ended with {ended.code}: {ended.stderr[-500:]}"] if ended.code else []


def phase(ended: Completed, message: Message) -> str:
    """Return the phase of a run in which a message was sent."""
    if message.locked:
        return "cutover"
    names = [str(event["event"]) for event in events(ended) if began(event) <= message.at]
    return next((BEGINS[name] for name in reversed(names) if name in BEGINS), "start")


def began(event: Mapping[str, object]) -> float:
    """Return when an event was written, in seconds since 1970."""
    return datetime.fromisoformat(str(event["timestamp"])).timestamp()


def said(ended: Completed) -> str:
    """Return the error of a run, or nothing."""
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else ""

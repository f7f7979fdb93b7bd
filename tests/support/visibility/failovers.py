"""A standby takes over while a run is at work on its primary, and what the next run makes of the new primary."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.postgres.failover import ASYNCHRONOUS, SETTINGS, Pair, pair
from support.postgres.fault_proxy import ROUND_TRIPS, Fault, FaultProxy, Message, Place
from support.postgres.standbys import programs
from support.program.command import Completed, finish, start_cli
from support.program.references import newest, picture
from support.vendor.kill_sweep import differences
from support.visibility import ledger, rewriting
from support.visibility.fault_sweep import BROKE, Kind, Scene, ended_wrongly, next_failed, phase, said, through
from support.visibility.load import Load, Traffic
from support.visibility.rewriting import ONLINE, Origin

START = "1.12"
ROWS = 300
PATIENCE = "6"
"""Seconds of --wait-timeout: for so long a run waits for the confirmation of a standby that is gone."""
UNCONFIRMED = "no synchronous standby has confirmed that"
ELSEWHERE = "another server may have become the primary|lost the advisory lock|read-only transaction"
FAILOVER = Kind(ends={0: "", 1: f"{BROKE}|{UNCONFIRMED}|{ELSEWHERE}"})
"""How a run may end during which another server takes over."""
VERSION = "SELECT string_agg(curr_version, ' ') FROM schema_version"
FENCE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """When the standby takes over: at a message, before it is sent or after, and whether the old primary is stopped."""

    name: str = ""
    mode: str
    stopped: bool
    place: Place
    after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it: `problem` is empty where all is well. `hit` is False where the run had no such message."""

    name: str
    mode: str
    stopped: bool
    hit: bool
    phase: str
    code: int
    said: str
    problem: str


@dataclass(slots=True, kw_only=True)
class Service:
    """Two servers as their clients see them: `now` is the primary that the writers use."""

    pair: Pair
    origin: Origin
    now: Databases = field(init=False)

    def __post_init__(self) -> None:
        self.now = self.old

    @property
    def old(self) -> Databases:
        """The databases on the first primary."""
        return replace(self.origin.databases, engine=Engine.of(self.pair.primary))

    @property
    def new(self) -> Databases:
        """The databases on the standby."""
        return replace(self.origin.databases, engine=Engine.of(self.pair.standby))

    def connect(self) -> Connection:
        """Return a connection of Temporal's server to the primary."""
        return self.now.connect_server(self.origin.database)

    def fail_over(self, *, stopped: bool) -> None:
        """Let the standby take over; the writers go with it, and none is left on the old primary."""
        self.pair.take_over(stopped=stopped)
        self.now = self.new
        if not stopped:
            with self.old.admin() as admin:
                admin.execute("SET synchronous_commit = local")
                admin.execute(FENCE, [self.origin.databases.server_user])

    def env(self, port: int | None = None) -> dict[str, str]:
        """Return the environment of a run that finds whichever server is the primary, the first one at a port."""
        ports = f"{self.pair.standby.port},{port or self.pair.primary.port}"
        return self.origin.env(self.origin.database) | {
            "SQL_HOST": "127.0.0.1,127.0.0.1",
            "SQL_PORT": ports,
            "SQL_CONNECT_ATTRIBUTES": "target_session_attrs=read-write",
            "SCHEMA_MIGRATOR_WAIT_TIMEOUT": PATIENCE,
        }


@contextmanager
def prepared() -> Iterator[Scene]:
    """Start a server with a store to copy; pairs are copies of it."""
    with private_server(settings=SETTINGS, bindir=programs()) as server, fresh(Engine.of(server)) as databases:
        yield Scene(server=server, origin=rewriting.origin(databases, START, ROWS))


def fail_over(scene: Scene, trial: Trial) -> Outcome:
    """Let the standby take over during a run, let another run follow, and look at the new primary."""
    with pair(scene.server, trial.mode) as made:
        service = Service(pair=made, origin=scene.origin)
        with Load(service.connect, Traffic(writes=50, reads=5, transactions=0.2, tolerant=True)) as load:
            ended, hit, recorded = _disturbed(service, trial)
        wrong = [] if trial.mode == ASYNCHRONOUS else [*load.problems, *_lost(service, load)]
        wrong += _carried_on(service) if hit else []
    return _outcome(trial, ended, phase(ended, hit) if hit else "", [*_ended_wrongly(ended, hit, recorded), *wrong])


def fail_over_installing(scene: Scene, trial: Trial) -> Outcome:
    """Let the standby take over while an empty store is installed, and look at the new primary after the next run."""
    origin = replace(scene.origin, database=scene.origin.databases.create())
    with pair(scene.server, trial.mode) as made:
        service = Service(pair=made, origin=origin)
        ended, hit, recorded = _disturbed(service, trial)
        again = finish(start_cli(service.env(), "migrate"))
        service.new.grant(origin.database)
        wrong = [*next_failed(again), *differences(picture(service.new, origin.database), origin.expected)]
    return _outcome(trial, ended, "installation" if hit else "", [*_ended_wrongly(ended, hit, recorded), *wrong])


def _outcome(trial: Trial, ended: Completed, where: str, wrong: Sequence[str]) -> Outcome:
    return Outcome(
        name=trial.name,
        mode=trial.mode,
        stopped=trial.stopped,
        hit=where != "",
        phase=where,
        code=ended.code,
        said=said(ended),
        problem="; ".join(wrong),
    )


def installation(scene: Scene) -> Sequence[Message]:
    """Return the messages of an installation that nobody disturbs, in its own connection."""
    databases, database = scene.origin.databases, scene.origin.databases.create()
    with FaultProxy(databases.host, databases.port, kinds=ROUND_TRIPS) as proxy:
        ended = finish(start_cli(scene.origin.env(database) | through(proxy), "migrate"))
    assert ended.code == 0, ended.stderr
    return [message for message in proxy.messages if message.connection == 0]


def _disturbed(service: Service, trial: Trial) -> tuple[Completed, Message | None, str]:
    """Run ours, and let the standby take over at the trial's place.

    Returns the run's end, the message if there was one, and the version that the new primary then has, or nothing.
    """
    act = partial(service.fail_over, stopped=trial.stopped)
    primary = service.pair.primary
    with FaultProxy(primary.host, primary.port, Fault(place=trial.place, after=trial.after, act=act)) as proxy:
        ended = finish(start_cli(service.env(proxy.port), "migrate", *ONLINE))
        hit = proxy.hit
    with service.new.connect(service.origin.database) as owner:
        versioned = owner.execute("SELECT to_regclass('schema_version')").fetchone() != (None,)
        (recorded,) = (versioned and owner.execute(VERSION).fetchone()) or ("",)
    return ended, hit, recorded


def _ended_wrongly(ended: Completed, hit: Message | None, recorded: str) -> list[str]:
    """Return what is wrong with a run's end: the end itself, or that it claims what is not on the new primary."""
    claims = ended.code == 0 and recorded != newest("visibility")[1]
    return [
        *ended_wrongly(ended, FAILOVER, disturbed=hit is not None),
        *([f"the run succeeded, and the new primary is at {recorded}"] if claims else []),
    ]


def _lost(service: Service, load: Load) -> list[str]:
    """Return the acknowledged writes that the new primary lacks."""
    with service.new.connect(service.origin.database) as owner:
        return ledger.differences(owner, load.statements, load.expected)


def _carried_on(service: Service) -> list[str]:
    """Run ours again, with writers on the new primary; return what is wrong there at the end."""
    origin, database = replace(service.origin, databases=service.new), service.origin.database
    with Load(service.connect, Traffic(writes=50, reads=5, transactions=0.2, seed=1)) as load:
        again = finish(start_cli(service.env(), "migrate", *ONLINE))
    return [*next_failed(again), *origin.problems(database, load), *origin.broken_indexes(database)]

"""The engine of the online rewrite on a small table, its statements ordered against writers' statements by a seed.

Everything happens in turn: before each statement of the engine, the scheduler decides by chance which statements of
which writers come first, and whether the engine is killed there. So a schedule is its seed, and comes back with it.
At the end the table is locked as for a cutover, and the copy has to be what the table is.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import psycopg

from schema_migrator.catalog.snapshot import Snapshot
from schema_migrator.concurrency import Interrupt
from schema_migrator.config import settings
from schema_migrator.config.settings import Settings
from schema_migrator.errors import MigratorError
from schema_migrator.online import backfill, change_log, copy_proof, replay, shadow_table, source_table
from schema_migrator.online.source_table import SourceTable
from schema_migrator.online.tuning import Tuner
from schema_migrator.online.worker_pool import WorkerPool
from schema_migrator.planning.plan import Online
from schema_migrator.planning.rewrite_span import TargetShape
from schema_migrator.postgres import transactions
from schema_migrator.postgres.pipelines import PipelineConnection
from schema_migrator.postgres.session_settings import Limits
from schema_migrator.runs.advisory_lock import KEY, Lock
from schema_migrator.runs.context import RunContext
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.visibility.schedule_writers import TABLE, Writer

SHAPE = TargetShape(
    table=TABLE,
    gone=("old",),
    added=(("twice", "integer GENERATED ALWAYS AS (number * 2) STORED"),),
    indexes=(),
    checks=(),
    touched=frozenset(),
    start=Snapshot({}),
    end=Snapshot({}),
)
ONLINE = Online(table=TABLE, size=0, rewrites=1, versions=(), shape=SHAPE)
MAKE = f"CREATE TABLE {TABLE} (part int, name text, number int, old int DEFAULT 7, PRIMARY KEY (part, name))"
FILL = f"INSERT INTO {TABLE} SELECT p, n, p + 10, 0 FROM generate_series(0, 2) p, regexp_split_to_table('abdf', '') n"
DIFFERENT = """
SELECT 'lost or old', l.* FROM (SELECT part, name, number, number * 2 FROM {live} EXCEPT ALL
  SELECT part, name, number, twice FROM {shadow}) l
UNION ALL SELECT 'come back, doubled or old', s.* FROM (SELECT part, name, number, twice FROM {shadow} EXCEPT ALL
  SELECT part, name, number, number * 2 FROM {live}) s
"""
ROWS_A_BATCH = 3
MOST_KILLS = 3
KILLS = 0.01
"""How many of the engine's statements it is killed at."""
LIMITS = Limits(table_lock=0, statement=0)
SERVER = {"max_prepared_transactions": "20"}
"""What a server of these tests needs."""


class Killed(Exception):
    """The engine is gone, with its connection."""


class Scheduled(PipelineConnection):
    """A connection of the engine's that lets others go first, before each of its statements."""

    before: Callable[[], None]

    def execute(self, *args: Any, **named: Any) -> psycopg.Cursor[Any]:  # noqa: ANN401 - psycopg's own
        """Wait for what was sent, let the others go first, then send the statement."""
        if self._pipeline is not None:
            self._pipeline.sync()
        self.before()
        return super().execute(*args, **named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a schedule: `problem` is empty where the copy was what the table is."""

    seed: int
    problem: str
    turns: int
    kills: int


@dataclass(slots=True, kw_only=True)
class Stage:
    """A small table with all that the engine makes for a rewrite, and the connections of some writers."""

    settings: Settings
    admin: Connection
    live: SourceTable
    lock: Lock
    clients: Sequence[Connection]

    def connect(self, before: Callable[[], None]) -> Scheduled:
        """Return a connection for the engine."""
        conninfo = self.admin.info
        conn = Scheduled.connect(conninfo.dsn, password=conninfo.password, autocommit=True)
        assert isinstance(conn, Scheduled)
        conn.before = before
        return conn

    def reset(self) -> None:
        """Bring the tables into the state of a rewrite that has just begun."""
        for table in (TABLE, f"{self.live.ours}.schema_migrator_shadow"):
            self.admin.execute(f"DELETE FROM {table}".encode())
        self.admin.execute(FILL.encode())
        for table in ("log", "batches"):
            self.admin.execute(f"DELETE FROM {self.live.ours}.{table}".encode())


@dataclass(slots=True, kw_only=True)
class Schedule:
    """One order of the engine's and the writers' statements."""

    stage: Stage
    seed: int
    chance: random.Random
    writers: Sequence[Writer]
    kills: int = 0
    turns: int = 0
    quiet: bool = False

    def before(self) -> None:
        """Let writers take some turns, and maybe kill the engine."""
        if self.quiet:
            return
        for _ in range(self.chance.choice((0, 0, 0, 1, 1, 2))):
            self.turns += 1
            self.chance.choice(self.writers).turn()
        if self.kills < MOST_KILLS and self.chance.random() < KILLS:
            self.kills += 1
            raise Killed

    def run(self) -> Outcome:
        """Run the engine to its end, again after each kill."""
        self.stage.reset()
        problem = None
        while problem is None:
            conn = self.stage.connect(self.before)
            with suppress(Killed):
                problem = self.engine(conn)
            conn.close()
        for writer in self.writers:
            writer.finish()
        return Outcome(seed=self.seed, problem=problem, turns=self.turns, kills=self.kills)

    def engine(self, conn: Scheduled) -> str:
        """Do what a rewrite does between its trigger and its cutover; return how the copy differs from the table."""
        pool = pool_of(self.stage, conn, self.before)
        try:
            columns = source_table.columns(conn, self.stage.live, SHAPE, computed=False)
            backfill.fill(pool, self.stage.live, columns)
            replay.drain(pool, self.stage.live, columns)
            copy_proof.prove(pool, self.stage.live, SHAPE)
            replay.drain(pool, self.stage.live, columns)
            return self.cutover(conn, columns)
        except (MigratorError, psycopg.Error) as error:
            return f"{type(error).__name__}: {error}"

    def cutover(self, conn: Scheduled, columns: Sequence[str]) -> str:
        """Lock the table, replay what is left, and compare; nothing is exchanged."""
        live = self.stage.live
        names = {"live": f"{live.schema}.{TABLE}", "shadow": f"{live.ours}.schema_migrator_shadow"}
        with transactions.transaction(conn, live.schema, LIMITS, name="schedule"), self.silence():
            for writer in self.writers:
                writer.finish()
            conn.execute(f"LOCK TABLE {names['live']} IN ACCESS EXCLUSIVE MODE".encode())
            conn.execute("SELECT 1").fetchone()
            self.quiet = False
            replay.assert_little(conn, live)
            replay.finish(conn, live, columns)
            different = conn.execute(DIFFERENT.format(**names).encode()).fetchall()
            self.quiet = True
        return "; ".join(map(str, different))

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Let nobody go first in the block, unless it says so."""
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnstile:
    """In place of the throttle: others go first."""

    before: Callable[[], None]
    allowed: int = 1
    brake: str = ""
    tuner: Tuner = field(default_factory=lambda: Tuner(most=1, fixed=True))

    def keep(self, _: Connection) -> None:
        """Let them."""
        self.before()


def pool_of(stage: Stage, conn: Scheduled, before: Callable[[], None]) -> WorkerPool:
    """Return a pool of one connection, with nothing to wait for."""
    work = RunContext(
        conn=conn,
        release=stage.settings.release,
        settings=stage.settings,
        store=stage.settings.stores[0],
        lock=stage.lock,
        interrupt=Interrupt(),
    )
    return WorkerPool(work=work, conns=(conn,), throttle=Turnstile(before=before))  # type: ignore[arg-type]  # a stand-in with all that a pool uses of its throttle


@contextmanager
def staged(databases: Databases) -> Iterator[Stage]:
    """Make the table, and begin a rewrite of it."""
    with (
        databases.connect("visibility") as admin,
        databases.connect("visibility") as holder,
        databases.connect("visibility") as first,
        databases.connect("visibility") as second,
    ):
        admin.execute(MAKE.encode())
        holder.execute("BEGIN")
        holder.execute(f"SELECT pg_advisory_xact_lock({KEY})".encode())
        for client in (first, second):
            client.execute("SET lock_timeout = '2ms'")
        live = begin(databases)
        lock = Lock(pid=holder.info.backend_pid, worker="schedule")
        env = databases.env("visibility") | {"SCHEMA_MIGRATOR_STORES": "visibility"}
        read = settings.read({}, env)
        yield Stage(settings=read, admin=admin, live=live, lock=lock, clients=(first, second))


def begin(databases: Databases) -> SourceTable:
    """Make the copy, the log and the trigger, as the engine does."""
    with databases.connect("visibility") as plain:
        conn = PipelineConnection.connect(plain.info.dsn, password=plain.info.password, autocommit=True)
        with conn, transactions.transaction(conn, "public", LIMITS, name="schedule"):
            live = source_table.look(conn, "public", SHAPE)
            assert live is not None
            with patch.object(shadow_table, "_make_schema", make_schema):
                shadow_table.build(conn, live, ONLINE, SHAPE)
            key = "ALTER TABLE {}.schema_migrator_shadow ADD PRIMARY KEY (part, name)"
            conn.execute(key.format(live.ours).encode())
            change_log.watch(conn, live)
    return live


def make_schema(conn: Connection, name: str, *_: object, **__: object) -> None:
    """Make the schema, without a comment: nothing looks for it here."""
    conn.execute(f"CREATE SCHEMA {name}".encode())


def schedules(stage: Stage, seeds: Sequence[int]) -> Iterator[Outcome]:
    """Yield what comes of each schedule."""
    boundary = backfill._boundary
    few = lambda live, after, size: boundary(live, after, min(size, ROWS_A_BATCH))  # noqa: E731 - a patch
    with patch.object(backfill, "_boundary", few):
        for seed in seeds:
            chance = random.Random(seed)  # noqa: S311 - nothing secret
            writers = [
                Writer(connection=client, chance=chance, name=f"{number} {seed}")
                for number, client in enumerate(stage.clients)
            ]
            yield Schedule(stage=stage, seed=seed, chance=chance, writers=writers).run()

"""Situations in which an online rewrite could hurt the users of a server, made on purpose on a real one."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg import sql

from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import fresh
from support.postgres.engine import Connection, Engine
from support.postgres.fault_proxy import STATEMENTS, Fault, FaultProxy, Place
from support.postgres.standbys import Primary, programs
from support.program.command import Completed, finish
from support.vendor.kill_sweep import drop
from support.visibility import rewriting
from support.visibility.fault_sweep import KINDS, said, through
from support.visibility.load import Traffic
from support.visibility.rewriting import ONLINE, Origin, events
from support.waiting import await_true

ROWS, START = 3000, "1.12"
SETTINGS = {
    "max_connections": "160",
    "wal_level": "logical",
    "archive_mode": "on",
    "archive_command": "true",
    "fsync": "on",
    "synchronous_commit": "on",
}
LIKE_THE_PRIMARY = {"max_connections": SETTINGS["max_connections"]}
TRAFFIC = Traffic(writes=20, reads=5, adopt=False)
PATIENCE = 8
"""Seconds of --wait-timeout."""
BUSY = 100
MOUNT, UMOUNT = "/bin/mount", "/bin/umount"
ROLES = ("plain owner", "with pg_monitor")
HELD_BACK = ("online.paused", "online.workers", "online.memory_scarce", "online.connections")
"""Events that tell of a pause, or of fewer workers."""
SWITCH = "SELECT pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()"
FAILS = "SELECT coalesce(last_failed_time > last_archived_time, true) FROM pg_stat_archiver"
VIEWS = ("pg_stat_activity", "pg_stat_replication", "pg_stat_archiver", "pg_replication_slots", "pg_stat_database")

Variables = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A server, a store to be copied, and the copy that a situation is made for."""

    primary: Primary
    origin: Origin
    database: str = ""

    def admin(self) -> Connection:
        """Return the superuser's connection to the copy."""
        return self.origin.databases.admin(self.database)

    def configure(self, **settings: str) -> None:
        """Change settings of the server, for all that connect from now on."""
        with self.admin() as admin:
            for name, value in settings.items():
                admin.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            admin.execute("SELECT pg_reload_conf()")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a run has to end: its exit code, a pattern of its error, and the event that tells that it was held back."""

    code: int
    error: str = ""
    event: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A situation; `make` yields the variables of the run. How it ends for a plain owner, and with pg_monitor."""

    make: Callable[[Stage], AbstractContextManager[Variables]]
    plain: End
    monitor: End


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did: `problem` is empty where it ended as it has to, and all writers went on."""

    situation: str
    role: str
    code: int
    said: str
    held_back: str
    writes: int
    longest: float
    problem: str


@contextmanager
def staged() -> Iterator[Stage]:
    """Start a server with a store."""
    with private_server(settings=SETTINGS, bindir=programs()) as server:
        engine = Engine.of(server)
        with fresh(engine) as databases:
            yield Stage(primary=Primary(engine=engine, server=server), origin=rewriting.origin(databases, START, ROWS))


def run(stage: Stage, name: str, role: str) -> Outcome:
    """Make a situation for a copy of the store, let users work on it, and rewrite it."""
    situation, here = SITUATIONS[name], replace(stage, database=stage.origin.copy())
    with ExitStack() as stack:
        if role != ROLES[0]:
            stack.enter_context(monitoring(here))
        variables = stack.enter_context(situation.make(here))
        load = stack.enter_context(here.origin.load(here.database, TRAFFIC))
        await_true(lambda: load.waits.done > 0)
        limits = {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": str(PATIENCE)}
        ended = finish(here.origin.migrate(here.database, *ONLINE, **{**limits, **variables}))
        before = load.waits.done
        await_true(lambda: load.waits.done > before or load.problems)
    expected = situation.plain if role == ROLES[0] else situation.monitor
    problem = "; ".join([*load.problems, *wrong(ended, expected)])
    drop(here.origin.databases, here.database)
    return Outcome(
        situation=name,
        role=role,
        code=ended.code,
        said=said(ended),
        held_back=held_back(ended),
        writes=load.waits.done,
        longest=round(load.waits.longest, 3),
        problem=problem,
    )


def wrong(ended: Completed, expected: End) -> Sequence[str]:
    """Return in words what is wrong with the end of a run."""
    if ended.code != expected.code or not re.search(expected.error, said(ended)):
        return [f"exit code {ended.code}, expected {expected.code} with {expected.error!r}: {ended.stderr[-600:]}"]
    names = [event["event"] for event in events(ended)]
    return [f"no event {expected.event}"] if expected.event and expected.event not in names else []


def held_back(ended: Completed) -> str:
    """Return the first thing that a run said of being held back."""
    for event in events(ended):
        if event["event"] == "online.connections" and event["opened"] != event["wanted"]:
            return f"{event['opened']} of {event['wanted']} connections"
        if event["event"] in HELD_BACK and (why := event.get("reason") or event.get("brake")):
            return f"{str(event['event']).removeprefix('online.')}: {why}"
    return ""


@contextmanager
def monitoring(stage: Stage) -> Iterator[None]:
    """Give the owner pg_monitor for the block."""
    owner = sql.Identifier(stage.origin.databases.user)
    with stage.origin.databases.admin() as admin:
        admin.execute(sql.SQL("GRANT pg_monitor TO {}").format(owner))
        try:
            yield
        finally:
            admin.execute(sql.SQL("REVOKE pg_monitor FROM {}").format(owner))


@contextmanager
def paused_standby(stage: Stage) -> Iterator[Variables]:
    """Yield with a standby, without a slot, that receives and replays nothing."""
    with stage.primary.standby("paused", settings=LIKE_THE_PRIMARY) as standby:
        standby.pause()
        stage.primary.write(4)
        yield {"SCHEMA_MIGRATOR_MAX_REPLICA_LAG": "1MB"}


@contextmanager
def delayed_standby(stage: Stage) -> Iterator[Variables]:
    """Yield with a standby on a slot that replays an hour later, on purpose."""
    with stage.primary.standby(
        "delayed", slot="delayed", settings={**LIKE_THE_PRIMARY, "recovery_min_apply_delay": "1h"}
    ):
        stage.primary.write(4)
        yield {"SCHEMA_MIGRATOR_MAX_REPLICA_LAG": "64MB"}


@contextmanager
def idle_slot(stage: Stage) -> Iterator[Variables]:
    """Yield with a slot that nothing reads."""
    with stage.admin() as admin:
        admin.execute("SELECT pg_create_physical_replication_slot('idle', true)")
        try:
            stage.primary.write(4)
            yield {"SCHEMA_MIGRATOR_MAX_SLOT_WAL": "1MB"}
        finally:
            admin.execute("SELECT pg_drop_replication_slot('idle')")


@contextmanager
def failing_archive(stage: Stage) -> Iterator[Variables]:
    """Yield with an archive_command that fails."""
    stage.configure(archive_command="false")
    try:
        with stage.admin() as admin:
            admin.execute(SWITCH.encode())
            await_true(lambda: admin.execute(FAILS.encode()).fetchone() == (True,))
        yield {}
    finally:
        stage.configure(archive_command="true")
        with stage.admin() as admin:
            admin.execute(SWITCH.encode())
            await_true(lambda: admin.execute(FAILS.encode()).fetchone() == (False,))


@contextmanager
def full_tablespace(stage: Stage) -> Iterator[Variables]:
    """Yield with the database on a small disk, on which the copy does not fit beside the table. Needs root."""
    account = stage.primary.server.account
    with tempfile.TemporaryDirectory(prefix="tablespace-") as name, stage.origin.databases.admin() as admin:
        Path(name).chmod(0o755)
        options = f"size=60m,mode=0700,uid={account.pw_uid if account else 0}"
        subprocess.run([MOUNT, "-t", "tmpfs", "-o", options, "tmpfs", name], check=True, capture_output=True)
        move = sql.SQL("ALTER DATABASE {} SET TABLESPACE {}").format
        database = sql.Identifier(stage.database)
        try:
            admin.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(name)))
            admin.execute(move(database, sql.Identifier("small")))
            yield {"SCHEMA_MIGRATOR_DISK_FREE": f"{shutil.disk_usage(name).free >> 20}MB"}
            await_true(lambda: unused(admin, stage.database))
            admin.execute(move(database, sql.Identifier("pg_default")))
            admin.execute("DROP TABLESPACE small")
        finally:
            subprocess.run([UMOUNT, "-l", name], check=True)


def unused(admin: Connection, database: str) -> bool:
    """Return whether nobody is connected to a database."""
    query = "SELECT FROM pg_stat_activity WHERE datname = %s"
    return admin.execute(query, [database]).fetchone() is None


@contextmanager
def slow_commits(stage: Stage) -> Iterator[Variables]:
    """Yield with commits that wait for a tenth of a second."""
    stage.configure(commit_delay="100000", commit_siblings="0")
    try:
        yield {"SCHEMA_MIGRATOR_MAX_COMMIT_SECONDS": "0.05", "SCHEMA_MIGRATOR_JOBS": "4"}
    finally:
        stage.configure(commit_delay="0", commit_siblings="5")


@contextmanager
def busy_sessions(stage: Stage) -> Iterator[Variables]:
    """Yield with a hundred sessions of another role that work all the time."""
    with ExitStack() as stack:
        for _ in range(BUSY):
            connection = stage.origin.databases.connect_server(stage.database)
            stack.callback(connection.close)
            connection.pgconn.send_query(b"SELECT pg_sleep(3600)")
        yield {"SCHEMA_MIGRATOR_MAX_LOAD": str(BUSY // 2)}


@contextmanager
def hidden_statistics(stage: Stage) -> Iterator[Variables]:
    """Yield while nobody may read what the server tells of sessions, replicas and archive."""
    views = sql.SQL(", ").join(sql.Identifier("pg_catalog", view) for view in VIEWS)
    with stage.admin() as admin:
        admin.execute(sql.SQL("REVOKE SELECT ON {} FROM PUBLIC").format(views))
        yield {}


@contextmanager
def no_connections(stage: Stage) -> Iterator[Variables]:
    """Yield while the server accepts three connections more: two of the users', and the program's first one is late."""
    free = "SELECT current_setting('max_connections')::int - 3 - sum(numbackends) FROM pg_stat_database"
    with ExitStack() as stack, stage.admin() as admin:
        ((number,),) = admin.execute(free.encode()).fetchall()
        users = TRAFFIC.writers + 1
        for _ in range(int(number) - users - 2):
            stack.enter_context(stage.origin.databases.connect_server(stage.database))
        yield {"SCHEMA_MIGRATOR_JOBS": "4"}


@contextmanager
def scarce_memory(stage: Stage) -> Iterator[Variables]:
    """Yield while the server has too little memory for one of the index builds."""
    place = Place(connection=0, message=2, kinds=STATEMENTS, statement="CREATE INDEX by_execution_duration ON .*online")
    databases = stage.origin.databases
    fault = Fault(place=place, error=KINDS["out of memory"].error)
    with FaultProxy(databases.host, databases.port, fault) as proxy:
        yield through(proxy)


BLIND = "does not see|cannot see|cannot be kept|lacks a privilege"
SITUATIONS: Mapping[str, Situation] = {
    "a standby whose replay is paused": Situation(
        make=paused_standby, plain=End(code=12, error=BLIND), monitor=End(code=0)
    ),
    "a standby with a delay on purpose": Situation(make=delayed_standby, plain=End(code=0), monitor=End(code=0)),
    "a slot that nothing reads": Situation(
        make=idle_slot,
        plain=End(code=1, error="which nothing reads, retains"),
        monitor=End(code=1, error="which nothing reads, retains"),
    ),
    "an archive that fails": Situation(
        make=failing_archive,
        plain=End(code=1, error="has archived no WAL"),
        monitor=End(code=1, error="has archived no WAL"),
    ),
    "a tablespace that fills": Situation(
        make=full_tablespace, plain=End(code=32, error="space"), monitor=End(code=32, error="space")
    ),
    "slow commits": Situation(
        make=slow_commits, plain=End(code=0, event="online.workers"), monitor=End(code=0, event="online.workers")
    ),
    "a hundred busy sessions of another role": Situation(
        make=busy_sessions,
        plain=End(code=12, error=BLIND),
        monitor=End(code=1, error="sessions of others are active"),
    ),
    "no rights on the server's statistics": Situation(
        make=hidden_statistics, plain=End(code=12, error=BLIND), monitor=End(code=12, error=BLIND)
    ),
    "no connection left but two": Situation(
        make=no_connections, plain=End(code=0, event="online.connections"), monitor=End(code=0)
    ),
    "too little memory": Situation(
        make=scarce_memory,
        plain=End(code=0, event="online.memory_scarce"),
        monitor=End(code=0, event="online.memory_scarce"),
    ),
}

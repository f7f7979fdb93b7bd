"""An upgrade of a visibility store under load, three ways: the vendor's tool, ours in place, ours online.

Each run gets a fresh copy of the same store. During the run the tests' model of Temporal's server writes and reads, and
sizes are sampled. Afterwards the schema, the rows and what the server wrote are compared.
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Self, TypeAlias

import bench_floor
import bench_hold
from bench_floor import Floor
from bench_hold import Hold
from bench_install import OURS, Command, compile_ours, facts, run
from bench_store import MeasuredStore
from rewrite_page import FLOOR, ONLINE, VENDOR, Figures, Forecast, Run
from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import RELEASES, fresh
from support.postgres.engine import Connection, Engine
from support.program.references import NEWEST
from support.vendor.kill_sweep import drop
from support.vendor.tool import FOLDERS, VendorTool, binary
from support.visibility import rewriting
from support.visibility.load import Load, Traffic, Waits
from support.visibility.operations import NAMESPACES
from support.visibility.rewriting import Origin

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
}
"""The server's, to be like one in use; all else is PostgreSQL's default."""
TRAFFIC = Traffic(writes=200, writers=2, reads=10, adopt=False)
NEVER = 0.001
QUIET = 2.0
"""Seconds of traffic before a run, and after it."""
SAMPLED = 0.25
OWN = f"namespace_id IN {NAMESPACES}"
"""What the writers write."""
SIZE = "SELECT pg_database_size(%s) + (SELECT coalesce(sum(size), 0) FROM pg_ls_tmpdir())"
WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
CHECKSUM = """
SELECT count(*) || ' rows, ' || coalesce(sum(hashtextextended(t::text, 0)), 0)
FROM executions_visibility t WHERE namespace_id <> ALL (%s::bpchar[])
"""


@dataclass(slots=True, kw_only=True)
class Sizes:
    """The sizes of a database, the server's temporary files included, looked at again and again in a `with`."""

    engine: Engine
    database: str
    found: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self) -> None:
        with self.engine.connect() as connection:
            while not self._stop.wait(SAMPLED if self.found else 0):
                self.found.append(int(ask(connection, SIZE, self.database)))
            self.found.append(int(ask(connection, SIZE, self.database)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to measure: from which versions, with how many rows, in which ways, with how many writes in a second.

    `hold`: the seconds for which a cutover is held, None if none is. `bindir`: the folder of another PostgreSQL.
    """

    starts: Sequence[str]
    rows: Sequence[int]
    ways: Sequence[str]
    writes: Sequence[float]
    hold: float | None = None
    bindir: Path | None = None


Found: TypeAlias = Run | Floor | Hold


def measure(wanted: Wanted) -> Iterator[Found]:
    """Yield what was measured, the smallest stores first."""
    compile_ours()
    with private_server(settings=SETTINGS, bindir=wanted.bindir) as started:
        engine = Engine.of(started)
        about = facts(engine) | {
            "vendor": f"temporal-sql-tool of {NEWEST}",
            "settings": ", ".join(f"{name} {value}" for name, value in SETTINGS.items()),
        }
        for count in wanted.rows:
            for start in wanted.starts:
                with fresh(engine) as databases:
                    origin = rewriting.origin(databases, start, count)
                    store = MeasuredStore(origin=origin, start=start, rows=count, about=about)
                    yield from measure_store(store, wanted)


def measure_store(store: MeasuredStore, wanted: Wanted) -> Iterator[Found]:
    """Yield what is measured on copies of one store: each way with each load, the floor, and a held cutover."""
    for writes, way in product(wanted.writes, wanted.ways):
        if way != FLOOR:
            yield measure_way(store, way, writes)
    if FLOOR in wanted.ways:
        yield from bench_floor.measure(store)
    if wanted.hold is not None:
        for writes in wanted.writes:
            yield bench_hold.measure(store, traffic(writes), wanted.hold, OWN)


def traffic(writes: float) -> Traffic:
    """Return the load with so many writes in a second; each connection of a writer takes a few hundred.

    Without load, writers and readers have their first turn and no other one.
    """
    if not writes:
        return replace(TRAFFIC, writes=NEVER, reads=NEVER)
    return replace(TRAFFIC, writes=writes, writers=max(2, round(writes / 250)))


def measure_way(store: MeasuredStore, way: str, writes: float) -> Run:
    """Return a run in one way on a copy of the store."""
    origin, database = store.origin, store.origin.copy()
    forecast = foreseen(origin, database, way)
    load, sizes, seconds, wal = measure_run(origin, database, command(origin, database, way), traffic(writes))
    found = Run(
        start=store.start,
        rows=store.rows,
        way=way,
        server=store.server,
        writes=writes,
        forecast=forecast,
        seconds=seconds,
        wal=wal,
        writer=figures_of(load.waits),
        reader=figures_of(load.reader.waits),
        disk_before=sizes[0],
        disk_peak=max(sizes),
        disk_after=sizes[-1],
        checksum=checksum(origin, database),
        problems=origin.problems(database, load, where=OWN),
        about=store.about,
    )
    drop(origin.databases, database)
    return found


def foreseen(origin: Origin, database: str, way: str) -> Forecast | None:
    """Return what `plan` forecasts of one of our ways; None if there is nothing to measure."""
    if way == VENDOR:
        return None
    words = [str(OURS), "plan", "--rewrite", way, "--output", "json"]
    said = subprocess.run(words, env=origin.env(database), capture_output=True, text=True, check=True).stdout
    (plan,) = json.loads(said)["stores"]
    online = plan["online"] and plan["online"]["estimate"]
    found = [online] if way == ONLINE else [step["estimate"] for step in plan["steps"]]
    if plan["measured"] is None or None in found:
        return None
    return Forecast(
        seconds=sum(estimate["seconds"]["likely"] for estimate in found),
        made=sum(estimate["disk_bytes"] for estimate in found),
        spent=plan["measured"]["seconds"],
        written=plan["measured"]["bytes_written"],
    )


def command(origin: Origin, database: str, way: str) -> Command:
    """Return what brings a copy to the newest version in that way."""
    if way == VENDOR:
        tool = VendorTool(version=NEWEST, databases=origin.databases)
        folder = RELEASES / NEWEST / "postgresql" / "v12" / FOLDERS["visibility"] / "versioned"
        words = (str(binary(NEWEST)), "update-schema", "-d", str(folder))
        return Command(words=words, env=tool.environment(database))
    return Command(words=(str(OURS), "migrate", "--rewrite", way), env=origin.env(database))


def measure_run(
    origin: Origin, database: str, upgrade: Command, traffic: Traffic
) -> tuple[Load, list[int], float, int]:
    """Run it under load; return the load, the sizes seen, the seconds and the bytes of WAL."""
    engine = origin.databases.engine
    with engine.connect() as admin:
        admin.execute("CHECKPOINT")
        with Sizes(engine=engine, database=database) as sizes, origin.load(database, traffic) as load:
            time.sleep(QUIET)
            written, began = int(ask(admin, WAL)), time.perf_counter()
            run(upgrade)
            seconds, wal = time.perf_counter() - began, int(ask(admin, WAL)) - written
            time.sleep(QUIET)
    return load, sizes.found, seconds, wal


def figures_of(waits: Waits) -> Figures:
    """Return the figures of some clients."""
    return Figures(done=waits.done, longest=waits.longest, total=waits.total)


def checksum(origin: Origin, database: str) -> str:
    """Return the number of rows that were there before, and a sum over them."""
    with origin.databases.admin(database) as admin:
        return ask(admin, CHECKSUM, list(NAMESPACES))


def ask(connection: Connection, query: str, *values: object) -> str:
    """Return the one value that a query gives."""
    return "".join(str(found) for (found,) in connection.execute(query.encode(), values).fetchall())

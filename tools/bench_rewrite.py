"""An upgrade of a visibility store under load, three ways: the vendor's tool, ours in place, ours online.

Each run gets a fresh copy of the same store. During the run the tests' model of Temporal's server writes and reads, and
sizes are sampled. Afterwards the schema, the rows and what the server wrote are compared.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from bench_install import OURS, Command, compile_ours, facts, run
from rewrite_page import VENDOR, Figures, Run
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


def measure(starts: Sequence[str], rows: Sequence[int], ways: Sequence[str]) -> Iterator[Run]:
    """Yield the runs, the smallest stores first."""
    compile_ours()
    with server() as engine:
        about = facts(engine) | {
            "vendor": f"temporal-sql-tool of {NEWEST}",
            "settings": ", ".join(f"{name} {value}" for name, value in SETTINGS.items()),
        }
        for count in rows:
            for start in starts:
                yield from measure_store(engine, start, count, ways, about)


@contextmanager
def server() -> Iterator[Engine]:
    """Start the embedded PostgreSQL."""
    with private_server(settings=SETTINGS) as started:
        yield Engine.of(started)


def measure_store(
    engine: Engine, start: str, rows: int, ways: Sequence[str], about: Mapping[str, str]
) -> Iterator[Run]:
    """Yield a run of each way on copies of one store."""
    with fresh(engine) as databases:
        origin = rewriting.origin(databases, start, rows)
        for way in ways:
            database = origin.copy()
            load, sizes, figures = measure_run(origin, database, command(origin, database, way))
            yield Run(
                start=start,
                rows=rows,
                way=way,
                writer=figures_of(load.waits),
                reader=figures_of(load.reader.waits),
                disk_before=sizes[0],
                disk_peak=max(sizes),
                disk_after=sizes[-1],
                checksum=checksum(origin, database),
                problems=origin.problems(database, load, where=OWN),
                about=about,
                **figures,
            )
            drop(databases, database)


def command(origin: Origin, database: str, way: str) -> Command:
    """Return what brings a copy to the newest version in that way."""
    if way == VENDOR:
        tool = VendorTool(version=NEWEST, databases=origin.databases)
        folder = RELEASES / NEWEST / "postgresql" / "v12" / FOLDERS["visibility"] / "versioned"
        words = (str(binary(NEWEST)), "update-schema", "-d", str(folder))
        return Command(words=words, env=tool.environment(database))
    return Command(words=(str(OURS), "migrate", "--rewrite", way), env=origin.env(database))


def measure_run(origin: Origin, database: str, upgrade: Command) -> tuple[Load, list[int], dict[str, float]]:
    """Run it under load; return the load, the sizes seen, the seconds and the bytes of WAL."""
    engine = origin.databases.engine
    with engine.connect() as admin:
        admin.execute("CHECKPOINT")
        with Sizes(engine=engine, database=database) as sizes, origin.load(database, TRAFFIC) as load:
            time.sleep(QUIET)
            written, began = int(ask(admin, WAL)), time.perf_counter()
            run(upgrade)
            seconds, wal = time.perf_counter() - began, int(ask(admin, WAL)) - written
            time.sleep(QUIET)
    return load, sizes.found, {"seconds": seconds, "wal": wal}


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

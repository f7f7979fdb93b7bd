"""What the work of an online rewrite costs at least: the same as bare SQL, while nobody else uses the table.

The rows are copied by one INSERT into a table of the new structure, the same indexes are built on some connections, the
copy is vacuumed and analysed, and both tables are compared by one join.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from psycopg import sql

from bench_store import MeasuredStore
from support.postgres.databases import dump
from support.postgres.engine import Connection
from support.program.references import newest, start_by_vendor
from support.vendor.kill_sweep import drop
from support.visibility.executions import TABLE
from support.visibility.rewriting import Origin

SCHEMA = "floor"
JOBS = (1, 2, 4)
"""Connections that build the indexes."""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %s AND tablename = %s"
KEY = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'"
COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
  AND (attgenerated = '' OR %s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The seconds of each part, on a server of some version, with so many connections for the indexes."""

    start: str
    rows: int
    server: str
    jobs: int
    copy: float
    indexes: float
    vacuum: float
    compare: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.copy + self.indexes + self.vacuum + self.compare

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What it is sorted and replaced by."""
        return self.server, self.rows, self.start, self.jobs


def measure(store: MeasuredStore) -> Iterator[Floor]:
    """Yield the floor for each number of connections, each on a fresh copy of the store."""
    for jobs in JOBS:
        database = store.origin.copy()
        with store.origin.databases.connect(database) as owner:
            definitions = build_empty(store.origin, owner)
            yield Floor(
                start=store.start,
                rows=store.rows,
                server=store.server,
                jobs=jobs,
                copy=seconds(partial(copy_rows, owner)),
                indexes=seconds(partial(build_indexes, store.origin, database, definitions, jobs)),
                vacuum=seconds(partial(owner.execute, f"VACUUM (ANALYZE) {SCHEMA}.{TABLE}".encode())),
                compare=seconds(partial(compare, owner, store.rows)),
            )
        drop(store.origin.databases, database)


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def build_empty(origin: Origin, owner: Connection) -> list[str]:
    """Build the table of the new structure in a schema of its own, without indexes; return their definitions."""
    database = start_by_vendor(origin.databases, "visibility", newest("visibility"), own=False)
    options = ("--schema-only", f"--table={TABLE}", "--no-owner", "--no-privileges")
    structure = dump(origin.databases.engine, database, *options).replace(f"public.{TABLE}", f"{SCHEMA}.{TABLE}")
    drop(origin.databases, database)
    owner.execute(f"CREATE SCHEMA {SCHEMA}".encode())
    owner.execute(structure.encode())
    owner.execute("RESET search_path")
    ((key, definition),) = owner.execute(KEY, [f"{SCHEMA}.{TABLE}"]).fetchall()
    found = owner.execute(INDEXES, [SCHEMA, TABLE]).fetchall()
    table = sql.Identifier(SCHEMA, TABLE)
    owner.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, sql.Identifier(key)))
    for name, _ in found:
        owner.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(SCHEMA, name)))
    add = sql.SQL("ALTER TABLE {} ADD ").format(table).as_string() + definition
    return [add, *(text for name, text in found if name != key)]


def copy_rows(owner: Connection) -> None:
    """Copy all rows in one statement."""
    new = [name for (name,) in owner.execute(COLUMNS, [f"{SCHEMA}.{TABLE}", False])]
    old = {name for (name,) in owner.execute(COLUMNS, [f"public.{TABLE}", False])}
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in new if name in old)
    owner.execute(
        sql.SQL("INSERT INTO {} ({columns}) SELECT {columns} FROM {}").format(
            sql.Identifier(SCHEMA, TABLE), sql.Identifier("public", TABLE), columns=columns
        )
    )


def build_indexes(origin: Origin, database: str, definitions: list[str], jobs: int) -> None:
    """Build the primary key, which blocks other builds, and then the other indexes on some connections."""
    waiting = deque(definitions[1:])

    def work() -> None:
        with origin.databases.connect(database) as owner:
            owner.execute("SET max_parallel_maintenance_workers = 0")
            while waiting:
                owner.execute(waiting.popleft().encode())

    with origin.databases.connect(database) as owner:
        owner.execute(definitions[0].encode())
    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def compare(owner: Connection, rows: int) -> None:
    """Compare all columns that both tables have, generated ones included."""
    new = [name for (name,) in owner.execute(COLUMNS, [f"{SCHEMA}.{TABLE}", True])]
    old = {name for (name,) in owner.execute(COLUMNS, [f"public.{TABLE}", True])}
    same = " AND ".join(f'l."{name}" IS NOT DISTINCT FROM f."{name}"' for name in new if name in old)
    query = f"SELECT count(*) FROM public.{TABLE} l JOIN {SCHEMA}.{TABLE} f USING (namespace_id, run_id) WHERE {same}"  # noqa: S608 - names of a table of ours
    ((equal,),) = owner.execute(query.encode()).fetchall()
    if equal != rows:
        raise AssertionError(f"{equal} rows are equal, expected {rows}")

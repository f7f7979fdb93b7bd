"""What else goes on beside an online rewrite, and tables at their limits: no row, as many columns as there may be."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from psycopg import errors, sql

from support.postgres.databases import dump, fresh
from support.postgres.engine import Connection, Engine
from support.postgres.standbys import primary
from support.program.command import run_cli
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.load import Traffic
from support.visibility.rewriting import Origin

ROWS = 300
LARGEST = 1600
"""Columns of a table, in PostgreSQL."""
COLUMNS = f"SELECT count(*) FROM pg_attribute WHERE attrelid = '{TABLE}'::regclass AND attnum > 0"
GONE = re.compile("could not open relation with OID|cache lookup failed for")
DECODED = "SELECT data FROM pg_logical_slot_get_changes('seen', NULL, NULL)"


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.12 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.12", ROWS)


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[list[object]]:
    """Do something again and again during the block; give what came of it."""
    done, ended = list[object](), threading.Event()

    def work() -> None:
        while not ended.is_set():
            done.append(act())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()


def count(connection: Connection) -> int:
    """Return how many rows there are."""
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {TABLE}".encode()).fetchall()
    return int(rows)


def refused(origin: Origin, database: str, code: int, *, begun: bool) -> str:
    """Run ours, which refuses, and leaves the schema as it was, if need be after --abandon; return its last line."""
    before = dump(origin.databases.engine, database)
    ended = origin.run(database)
    assert ended.code == code, ended.stderr
    if begun:
        abandoned = run_cli(origin.env(database), "migrate", "--abandon")
        assert abandoned.code == 0, abandoned.stderr
    assert dump(origin.databases.engine, database) == before
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_of_hardly_any_row(server: Engine, rows: int) -> None:
    """Nothing to copy is copied like anything else."""
    with fresh(server) as databases:
        made = rewriting.origin(databases, "1.12", rows)
        with made.load(made.database, Traffic(writes=1)) as load:
            ended = made.run(made.database)
        assert ended.code == 0, ended.stderr
        assert made.problems(made.database, load) == []


def test_vacuum_freeze_meanwhile(origin: Origin) -> None:
    """A VACUUM that somebody runs all the time delays a lock, and changes nothing."""
    database = origin.copy()
    with (
        origin.databases.admin(database) as admin,
        origin.load(database, Traffic(writes=50)) as load,
        meanwhile(lambda: admin.execute(f"VACUUM (FREEZE) {TABLE}".encode())) as vacuums,
    ):
        ended = origin.run(database)
    assert ended.code == 0, ended.stderr
    assert len(vacuums) > 1
    assert origin.problems(database, load) == []


def test_dumps_meanwhile(origin: Origin) -> None:
    """Each pg_dump has every row, or fails because the table that it has seen is gone before it was locked."""
    database = origin.copy()
    with meanwhile(lambda: dumped(origin, database)) as dumps:
        ended = origin.run(database)
    assert ended.code == 0, ended.stderr
    assert {ROWS} <= set(dumps) <= {ROWS, None}
    assert dumps.count(None) <= 2


def dumped(origin: Origin, database: str) -> int | None:
    """Return how many rows a dump of the table has, or nothing if the table was gone."""
    try:
        text = dump(origin.databases.engine, database, "--data-only", "--inserts", f"--table={TABLE}")
    except AssertionError as error:
        if not GONE.search(str(error)):
            raise
        return None
    return text.count("INSERT INTO")


def test_what_logical_decoding_sees() -> None:
    """The copy's rows under the copy's name, nothing of the cutover, and writes to the table under its own name."""
    with primary() as first, fresh(first.engine) as databases:
        made = rewriting.origin(databases, "1.12", ROWS)
        with databases.admin(made.database) as admin:
            admin.execute("SET synchronous_commit = on")  # what is not flushed is not decoded
            admin.execute("SELECT pg_create_logical_replication_slot('seen', 'test_decoding')")
            ended = made.run(made.database)
            assert ended.code == 0, ended.stderr
            admin.execute(f"DELETE FROM {TABLE} WHERE run_id = (SELECT min(run_id) FROM {TABLE})".encode())
            changes = [re.match(r"table (\S+?)(?:_?\d+)?\.(\S+): (\w+):", data) for (data,) in admin.execute(DECODED)]
            admin.execute("SELECT pg_drop_replication_slot('seen')")
    seen = Counter(change.groups() for change in changes if change)
    assert seen["schema_migrator_online", "schema_migrator_shadow", "INSERT"] == ROWS
    assert {key: number for key, number in seen.items() if key[1] == TABLE} == {("public", TABLE, "DELETE"): 1}


def test_a_table_that_can_have_no_more_columns(origin: Origin) -> None:
    """PostgreSQL's limit is named, and nothing was changed."""
    database = origin.copy()
    with origin.databases.connect(database) as owner:
        ((columns,),) = owner.execute(COLUMNS.encode()).fetchall()
        more = sql.SQL(", ").join(sql.SQL("ADD own_{} int").format(sql.SQL(str(n))) for n in range(LARGEST - columns))
        owner.execute(sql.SQL("ALTER TABLE {} {}").format(sql.Identifier(TABLE), more))
    assert "tables can have at most 1600 columns" in refused(origin, database, 34, begun=False)


def test_a_row_that_grows_too_large(origin: Origin) -> None:
    """A row at the page's limit, in a table where one more column makes each row larger: the row is named."""
    database = origin.copy()
    with origin.databases.connect(database) as owner:
        ((columns,),) = owner.execute(COLUMNS.encode()).fetchall()
        # The header of a row has a bit for each column, and grows by eight bytes with the 73rd, the 137th ... column.
        more = -(columns + 1 - 8) % 64
        owner.execute(f"ALTER TABLE {TABLE} ADD own_pad text".encode())
        owner.execute(f"ALTER TABLE {TABLE} ALTER own_pad SET STORAGE PLAIN".encode())
        for number in range(more):
            owner.execute(f"ALTER TABLE {TABLE} ADD own_{number} int".encode())
        fitted(owner)
    assert "row is too big" in refused(origin, database, 34, begun=True)


def fitted(owner: Connection) -> None:
    """Let one row be as large as it can be."""
    low, high = 0, 9000
    while high - low > 1:
        middle = (low + high) // 2
        query = f"UPDATE {TABLE} SET own_pad = repeat('x', {middle}) WHERE run_id = (SELECT min(run_id) FROM {TABLE})"
        try:
            owner.execute(query.encode())
            low = middle
        except errors.ProgramLimitExceeded:
            high = middle

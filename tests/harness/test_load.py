"""The load of the tests: the rows are as its writers say, and what is not so is found."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schema_migrator.demo.embedded_postgres import Server, private_server
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.program.references import start_by_vendor
from support.visibility import ledger
from support.visibility.executions import PAGE, fill
from support.visibility.load import Load, Traffic, wrong_page

ROWS = 2000
SAFE = {"synchronous_commit": "on"}
"""A commit that was acknowledged outlives the server's processes."""


@pytest.fixture
def rows(databases: Databases) -> str:
    """Return a visibility store at 1.9 with rows, which the server may write."""
    return prepared(databases)


def prepared(databases: Databases) -> str:
    """Make that store."""
    start_by_vendor(databases, "visibility", ("1.29.1", "1.9"))
    with databases.connect("visibility") as connection:
        fill(connection, ROWS)
    databases.grant(databases.visibility)
    return databases.visibility


@contextmanager
def loaded(databases: Databases, database: str, traffic: Traffic) -> Iterator[Load]:
    """Let it work for the block."""
    with Load(lambda: databases.connect_server(database), traffic) as load:
        yield load


@pytest.fixture
def server_of_its_own() -> Iterator[tuple[Server, Databases]]:
    """Start a server that the test may stop."""
    with private_server(settings=SAFE) as server:
        engine = Engine.of(server)
        with fresh(engine) as databases:
            yield server, databases


def found(connection: Connection, load: Load) -> list[str]:
    """Return what is wrong, in words."""
    return ledger.differences(connection, load.statements, load.expected)


def test_rows_are_filled_the_same_every_time(databases: Databases) -> None:
    """A seed gives the same rows in every database, another seed others; every kind of value is among them."""
    start_by_vendor(databases, "visibility", ("1.32.2", "1.14"))
    with databases.connect("visibility") as connection:
        seen = []
        for seed in (1, 1, 2):
            connection.execute("TRUNCATE executions_visibility")
            fill(connection, ROWS, seed)
            row = connection.execute("SELECT md5(string_agg(t::text, '' ORDER BY run_id)) FROM executions_visibility t")
            seen.append(row.fetchone())
        assert seen[0] == seen[1] != seen[2]
        values = connection.execute(
            "SELECT count(buildids), count(text01), count(temporalpauseinfo) FROM executions_visibility"
        )
        assert all(values.fetchone() or (0,))


def test_the_rows_are_as_the_writers_say(databases: Databases, rows: str) -> None:
    """Upserts, deletes, changed keys and transactions leave what the writers wrote down."""
    with loaded(databases, rows, Traffic(writes=400, transactions=0.3)) as load:
        time.sleep(2)
    with databases.connect(rows) as connection:
        assert found(connection, load) == []
    assert load.problems == []
    assert load.waits.done > 100
    assert load.reader.waits.done > 5


def test_a_wrong_row_is_found(databases: Databases, rows: str) -> None:
    """A row that is lost, there again, there twice or older than was written is named, and a wrong column."""
    with loaded(databases, rows, Traffic()) as load:
        pass
    first, second, third = sorted(load.expected)[:3]
    key = "WHERE (namespace_id, run_id) = (%s, %s)"
    with databases.connect(rows) as connection:
        connection.execute("ALTER TABLE executions_visibility DROP CONSTRAINT executions_visibility_pkey")
        connection.execute(f"DELETE FROM executions_visibility {key}", first)
        connection.execute(f"UPDATE executions_visibility SET status = 99 {key}", second)
        connection.execute(
            "INSERT INTO executions_visibility (namespace_id, run_id, start_time, execution_time, workflow_id,"
            " workflow_type_name, status, encoding) SELECT namespace_id, CASE n WHEN 1 THEN 'new' ELSE run_id END,"
            f" start_time, execution_time, workflow_id, workflow_type_name, status, encoding"
            f" FROM executions_visibility, generate_series(1, 2) n {key}",
            third,
        )
        connection.execute("ALTER TABLE executions_visibility ADD COLUMN later text DEFAULT 'x'")
        connection.execute(f"UPDATE executions_visibility SET later = 'y' {key}", second)
        assert found(connection, load) == [
            f"1 rows are lost: {[first]}",
            f"1 rows are doubled: {[third]}",
            f"1 rows are come back: {[(third[0], 'new')]}",
            f"2 rows are old: {[second, third]}",
            "1 rows have another later than 'x'::text",
        ]


def test_a_wrong_page_is_found() -> None:
    """A page that is short, foreign, doubled or out of order is a problem."""
    group = ("space", 2)
    row = {"namespace_id": "space", "status": 2, "close_time": None}
    page = [row | {"run_id": str(number), "start_time": -number} for number in range(PAGE)]
    assert wrong_page(page, group, PAGE) == ""
    assert wrong_page(page[1:], group, PAGE) == f"a page of {group} has 19 rows, expected 20"
    assert wrong_page([page[0] | {"status": 1}, *page[1:]], group, PAGE) == f"a page of {group} has rows of others"
    assert wrong_page([page[1], *page[1:]], group, PAGE) == f"a page of {group} has a row twice"
    assert wrong_page(page[::-1], group, PAGE) == f"a page of {group} is out of order"


@pytest.mark.server
def test_the_writers_outlive_their_server(server_of_its_own: tuple[Server, Databases]) -> None:
    """After a server's sudden end writers go on, and know of each write whether it was done."""
    server, databases = server_of_its_own
    database = prepared(databases)
    with loaded(databases, database, Traffic(writes=400, transactions=0.5, tolerant=True)) as load:
        for _ in range(2):
            time.sleep(0.5)
            server.stop()
            server.start()
        time.sleep(0.5)
    with databases.connect(database) as connection:
        assert found(connection, load) == []
    assert load.problems == []


def test_a_broken_connection_is_a_problem(databases: Databases, rows: str) -> None:
    """Who is not to bear with a lost connection says so."""
    with loaded(databases, rows, Traffic(writers=1, reads=0.1)) as load, databases.admin(rows) as admin:
        time.sleep(0.3)
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [databases.server_user]
        )
        time.sleep(0.3)
    # Whether the server's last words arrive before the connection's end is a matter of moments.
    (problem,) = load.writers[0].problems
    assert problem.split(":")[0] in ("AdminShutdown", "OperationalError")

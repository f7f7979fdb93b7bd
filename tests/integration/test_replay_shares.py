"""The replay of the change log on several connections: each key is on one of them."""

from collections.abc import Iterator

import pytest
from psycopg import sql

from schema_migrator.online import replay
from schema_migrator.online.replay import Share
from schema_migrator.online.source_table import SourceTable
from schema_migrator.online.table_attributes import TableAttributes
from schema_migrator.postgres.connection import Connection
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Engine
from support.program.store_driver import site
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.load import Traffic
from support.visibility.rewriting import Origin

ROWS = 300
SHARES = 3
KEYS = {
    "text": ("text", ("'a'", "'b'", "'c'", "'d'", "'e'"), ()),
    "blanks": ("character(64)", ("'a'", "'a '", "'b'", "'c'", "'d'"), (("'a'", "'a '"),)),
    "numeric": ("numeric", ("1.0", "1.00", "2", "3", "4"), (("1.0", "1.00"),)),
    "zeros": ("double precision", ("0", "'-0'", "1", "2", "3"), (("0", "'-0'"),)),
    "case": ("citext", ("'a'", "'A'", "'b'", "'c'", "'d'"), (("'a'", "'A'"),)),
    "uuid": ("uuid", tuple(f"md5('{number}')::uuid" for number in range(5)), ()),
}
"""A type, values of it, and those that are equal although they look different."""


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.9 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.9", ROWS)


def table_with(key: str) -> SourceTable:
    """Return a table with a key of one column."""
    attributes = TableAttributes(early=(), late=())
    return SourceTable(
        schema="public", table="t", oid=0, key=((key, ""),), attributes=attributes, picture={}, fingerprint=""
    )


@pytest.mark.parametrize("kind", KEYS)
def test_equal_keys_are_in_one_share(databases: Databases, kind: str) -> None:
    """Every entry is in exactly one share, and with it all entries of an equal key."""
    type_name, values, same = KEYS[kind]
    with databases.connect("visibility") as owner:
        owner.execute("CREATE EXTENSION citext")
        owner.execute(f"CREATE TABLE log (k {type_name}, said text)".encode())
        for value in values:
            owner.execute(f"INSERT INTO log VALUES ({value}, $said${value}$said$)".encode())
        shares = [in_share(owner, Share(number=number, of=SHARES)) for number in range(SHARES)]
    assert sorted(value for share in shares for value in share) == sorted(values)
    for one, other in same:
        assert [share for share in shares if one in share] == [share for share in shares if other in share]


def in_share(owner: Connection, share: Share) -> list[str]:
    """Return the entries of a share."""
    query = sql.SQL("SELECT said FROM log {}").format(replay._of_share(table_with("k"), share))
    return [said for (said,) in owner.execute(query).fetchall()]


def test_several_connections_replay(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is shared; the rows end as they were written last, and none is there twice."""
    database = origin.copy()
    with origin.held(database) as held:
        held.kill()
    with origin.databases.connect(database) as owner:
        for text in ("one", "two"):
            owner.execute(f"UPDATE {TABLE} SET task_queue = '{text}'".encode())
        owner.execute(f"UPDATE {TABLE} SET run_id = 'moved' || run_id WHERE start_time < now()".encode())
        rows = owner.execute(f"SELECT run_id, task_queue FROM {TABLE} ORDER BY 1".encode()).fetchall()
    workers = watched(monkeypatch)
    run(origin, database)
    assert len(workers) == SHARES + 1  # and the connection of the cutover
    with origin.databases.connect(database) as owner:
        assert owner.execute(f"SELECT run_id, task_queue FROM {TABLE} ORDER BY 1".encode()).fetchall() == rows


def watched(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the processes of the server that replay, as they come; the log is read in small pieces."""
    monkeypatch.setattr(replay, "_MANY", 60)
    monkeypatch.setattr(replay, "_EACH", 10)
    monkeypatch.setattr(replay, "LITTLE", 10)
    seen, right = set[int](), replay._replay

    def counted(conn: Connection, live: SourceTable, query: sql.Composed, most: int | None) -> None:
        seen.add(conn.info.backend_pid)
        right(conn, live, query, most)

    monkeypatch.setattr(replay, "_replay", counted)
    return seen


def run(origin: Origin, database: str) -> None:
    """Migrate a copy online on as many connections as there are shares."""
    jobs = {"SCHEMA_MIGRATOR_REWRITE": "online", "SCHEMA_MIGRATOR_JOBS": str(SHARES)}
    site(origin.databases, "visibility").at(database).migrate(**jobs)


def test_while_few_rows_change_all_the_time(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two connections with one key would let the older row win; nothing that a server wrote is lost."""
    database = origin.copy()
    watched(monkeypatch)
    with origin.load(database, Traffic(writes=50.0, transactions=0.2)) as load:
        run(origin, database)
    assert origin.problems(database, load) == []

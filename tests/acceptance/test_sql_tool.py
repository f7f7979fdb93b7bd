"""The vendor's binary as executor: the same end as ours, whatever happens on the way."""

import os
import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from support.postgres.databases import STORES, Databases
from support.postgres.proxy import Options, Proxy
from support.postgres.rows import contents, fill
from support.postgres.statement_gate import pids
from support.program.command import finish, start_cli
from support.program.library import PINNED
from support.program.references import NEWEST, References, latest, picture, run_here
from support.vendor.kill_sweep import KINDS, points
from support.vendor.tool import binary
from support.waiting import await_none, await_one

IN_CI = ("1.29.1", "1.32.2")
TOOLS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '% worker %'"
WAITING = f"{TOOLS} AND wait_event_type = 'Lock'"


def environment(databases: Databases, release: str = NEWEST, **more: str) -> dict[str, str]:
    """Return the environment for the executor; the vendor's login, because its tool garbles a blank in a password."""
    return databases.env() | {
        "SQL_USER": databases.vendor_user,
        "SQL_PASSWORD": databases.vendor_password,
        "TEMPORAL_VERSION": release,
        "SCHEMA_MIGRATOR_EXECUTOR": "sql-tool",
        "SCHEMA_MIGRATOR_SQL_TOOL": str(binary(release)),
        **more,
    }


def assert_equal(databases: Databases, references: References, release: str) -> None:
    """Compare both stores with what the vendor's tool makes of nothing."""
    for store in STORES:
        assert picture(databases, store) == references.picture(store, (release, latest(release, store)))


@pytest.mark.parametrize(
    "release", [pytest.param(name, marks=() if name in IN_CI else pytest.mark.matrix) for name in PINNED]
)
def test_an_installation_is_the_same(databases: Databases, references: References, release: str) -> None:
    """Both stores from nothing, then nothing to do: the dump and the records are the vendor's own."""
    env = environment(databases, release)
    for _ in range(2):
        assert run_here(env, "migrate") == 0
        assert_equal(databases, references, release)


@pytest.mark.parametrize("older", ["1.29.1", pytest.param("1.25.1", marks=pytest.mark.matrix)])
def test_an_upgrade_keeps_the_rows(databases: Databases, references: References, older: str) -> None:
    """From another release's versions, made natively, with rows in every table: as the vendor's tool alone."""
    assert run_here(databases.env() | {"TEMPORAL_VERSION": older}, "migrate") == 0
    before = {store: counts(databases, store, rows=20) for store in STORES}
    assert run_here(environment(databases), "migrate") == 0
    for store in STORES:
        hops = (older, latest(older, store)), (NEWEST, latest(NEWEST, store))
        assert picture(databases, store).schema == references.picture(store, *hops).schema
        after = counts(databases, store)
        assert before[store] == {table: after[table] for table in before[store]}


def counts(databases: Databases, store: str, rows: int = 0) -> dict[str, int]:
    """Return the number of rows in every table, with some more put in before."""
    with databases.connect(store) as connection:
        if rows:
            fill(connection, rows)
        return {table: len(found) for table, found in contents(connection).items()}


@pytest.mark.parametrize(
    ("store", "every"),
    [pytest.param(*pair, marks=() if pair[1] > 10 else pytest.mark.matrix) for pair in product(STORES, (40, 10))],
)
def test_killed_at_every_tenth_statement(databases: Databases, references: References, store: str, every: int) -> None:
    """The tool's connection is cut; the first run says so with exit 1, the second one is at target."""
    database = f"{store.upper()}_SQL_DATABASE"
    for point in list(points(databases, NEWEST, store))[:: 2 * every]:
        name = databases.create()
        env = environment(databases, SCHEMA_MIGRATOR_STORES=store, **{database: name})
        where = Options(host=databases.host, port=databases.port, cut_at=point.message, cut_kinds=KINDS, final=True)
        with Proxy(where) as proxy:
            direct = {"SQL_DIRECT_HOST": proxy.host, "SQL_DIRECT_PORT": str(proxy.port)}
            assert run_here(env | direct, "migrate") == 1, point
        assert run_here(env, "migrate") == 0, point
        wanted = references.picture(store, (NEWEST, latest(NEWEST, store)))
        assert picture(databases, name).schema == wanted.schema, point


@pytest.fixture
def busy(databases: Databases) -> Iterator[Databases]:
    """Give an older visibility store whose table another session keeps locked."""
    older = environment(databases, SCHEMA_MIGRATOR_STORES="visibility", VISIBILITY_TARGET_VERSION="1.6")
    assert run_here(older, "migrate") == 0
    with databases.connect("visibility") as other, other.transaction():
        other.execute("SELECT FROM executions_visibility")
        yield databases


def test_a_signal_ends_the_tool(busy: Databases) -> None:
    """SIGTERM while the tool waits for a table: exit 143, and neither it nor its statement goes on."""
    process = start_cli(environment(busy, SCHEMA_MIGRATOR_STORES="visibility"), "migrate")
    with busy.admin(busy.visibility) as admin:
        await_one(lambda: pids(admin, WAITING))
        process.send_signal(signal.SIGTERM)
        done = finish(process)
        assert (done.code, "sql_tool.output" in done.stderr) == (143, True)
        await_none(lambda: pids(admin, TOOLS))


def test_a_dead_tool_leaves_no_statement(busy: Databases) -> None:
    """Killed with its parent while its statement waits: the server sees that nobody is there and ends it."""
    process = start_cli(environment(busy, SCHEMA_MIGRATOR_STORES="visibility"), "migrate")
    with busy.admin(busy.visibility) as admin:
        await_one(lambda: pids(admin, WAITING))
        for pid in (process.pid, *children(process.pid)):
            os.kill(pid, signal.SIGKILL)
        finish(process)
        await_none(lambda: pids(admin, TOOLS))


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]

"""Temporal's own server on schemas of our making: it boots, works, and waits for them."""

import json
from pathlib import Path

import pytest

from support.postgres.databases import Databases
from support.program.command import await_event, finish, run_process, start_cli
from support.program.references import References
from support.temporal.temporal_server import TemporalServer, refusal, serving
from support.temporal.workflows import ATTRIBUTES, Orders
from support.vendor.kill_points import Points
from support.vendor.kill_sweep import Sweep
from support.visibility.executions import fill

pytestmark = [pytest.mark.temporal, pytest.mark.timeout(900)]
OLD = {"TEMPORAL_VERSION": "1.29.1"}
NEW = {"TEMPORAL_VERSION": "1.32.2"}
ROWS = 30_000
"""Of the visibility store that is rewritten online: seconds."""
BEATS = 25
"""Five seconds and more of each workflow: those that have begun before an upgrade end after it."""
NAMESPACE = {"name": "ameide", "retention": "3d", "searchAttributes": ATTRIBUTES}


def migrate(databases: Databases, *args: str, **variables: str) -> list[dict[str, object]]:
    """Migrate both stores; give the server its rights; return what was done."""
    done = run_process(databases.env() | OLD | variables, "migrate", "--output", "json", *args)
    assert done.code == 0, done.stderr
    for store in ("default", "visibility"):
        databases.grant(databases.name(store))
    return list(json.loads(done.stdout)["stores"])


def bootstrap(databases: Databases, server: TemporalServer) -> None:
    """Make the namespace, as the chart's Job does."""
    env = databases.env() | {"TEMPORAL_ADDRESS": server.address, "SCHEMA_MIGRATOR_NAMESPACES": json.dumps([NAMESPACE])}
    done = run_process(env, "namespaces", "--output", "json")
    assert done.code == 0, done.stderr
    (made,) = json.loads(done.stdout)["namespaces"]
    assert (made["created"], made["search_attributes_added"]) == (True, list(ATTRIBUTES))
    assert run_process(env, "namespaces", "--check", "ameide").code == 0


def works(databases: Databases, server: TemporalServer) -> None:
    """Assert that workflows run to their ends and are found by a search attribute, without a complaint."""
    bootstrap(databases, server)
    with server.uncomplaining(), Orders(server.address, "ameide", beats=3) as orders:
        pass
    assert (orders.started >= 3, orders.failed_tasks) == (True, 0)


def test_boots_and_works(databases: Databases, tmp_path: Path) -> None:
    """On a fresh installation it passes its own check, gets its namespace, and runs workflows that visibility finds."""
    migrate(databases)
    with serving(databases, tmp_path) as server:
        works(databases, server)


@pytest.mark.parametrize(
    ("store", "version", "wanted"), [("default", "1.17", "1.18"), ("visibility", "1.8", "1.9")], ids=str
)
def test_one_version_behind(databases: Databases, tmp_path: Path, store: str, version: str, wanted: str) -> None:
    """It refuses to start; `wait` blocks until `migrate` has run; then it starts and works."""
    migrate(databases, **{f"{store.upper()}_TARGET_VERSION": version})
    code, said = refusal(databases, tmp_path)
    assert code != 0
    assert f'version mismatch for keyspace/database: "{databases.name(store)}"' in said.replace("\\", "")
    assert f"Expected version: {wanted} cannot be greater than Actual version: {version}" in said
    waiting = start_cli(databases.env() | OLD, "wait", "--for", "schema", "--output", "json")
    await_event(waiting, "schema.waiting")
    assert waiting.poll() is None
    migrate(databases)
    assert finish(waiting).code == 0
    with serving(databases, tmp_path) as server:
        works(databases, server)


@pytest.mark.parametrize(("rows", "ways"), [(0, ()), (ROWS, ("--rewrite", "online"))], ids=["as it stands", "online"])
def test_upgraded_while_it_works(databases: Databases, tmp_path: Path, rows: int, ways: tuple[str, ...]) -> None:
    """To the schemas of 1.32.2 under the running 1.29.1: workflows in flight go on, and each step is found."""
    migrate(databases)
    with databases.connect("visibility") as owner:
        fill(owner, rows)
    with serving(databases, tmp_path) as server:
        bootstrap(databases, server)
        with server.uncomplaining(), Orders(server.address, "ameide", beats=BEATS) as orders:
            before = orders.started
            done = migrate(databases, *ways, **NEW)
            during = orders.started - before
            orders.await_started(3)
    assert [store["version"] for store in done] == ["1.19", "1.14"]
    assert (during >= 1, orders.failed_tasks) == (True, 0)
    with serving(databases, tmp_path / "again") as server:
        env = databases.env() | {"TEMPORAL_ADDRESS": server.address}
        assert run_process(env, "wait", "--for", "frontend").code == 0
        with server.uncomplaining(), Orders(server.address, "ameide", beats=3, first=1000) as orders:
            pass
    assert (orders.started >= 3, orders.failed_tasks) == (True, 0)


@pytest.mark.parametrize(("store", "share"), [("default", 0.3), ("default", 0.8), ("visibility", 0.6)], ids=str)
def test_half_applied_and_healed(
    databases: Databases, references: References, all_points: Points, tmp_path: Path, store: str, share: float
) -> None:
    """What the vendor's tool left half done when it was cut is healed by one run; the server starts and works."""
    listed = all_points("1.29.1", store)
    point = listed[int(len(listed) * share)]
    assert Sweep(databases=databases, references=references).stop(point, databases.name(store))
    migrate(databases)
    with serving(databases, tmp_path) as server:
        works(databases, server)

"""Two visibility stores that are rewritten online in one run: never both in the cutover."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from schema_migrator.online import cutover, rewrite
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Engine
from support.program.command import await_event, finish, run_cli, start_cli
from support.program.store_driver import LATEST, files, install
from support.vendor.kill_sweep import copy
from support.visibility.executions import TABLE, fill
from support.visibility.rewriting import ONLINE
from support.waiting import PATIENCE

STORES = ("visibility", "secondary-visibility")
OLD, ROWS = "1.9", 50


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[tuple[Databases, str]]:
    """Make a visibility store at an older version with some rows, to be copied."""
    with fresh(server) as databases:
        name = databases.create()
        install(databases, name, "visibility", "1.32.2", files("visibility").target(OLD))
        with databases.connect(name) as connection:
            fill(connection, ROWS)
        yield databases, name


@pytest.fixture
def env(origin: tuple[Databases, str]) -> dict[str, str]:
    """Return the environment for two copies."""
    databases, name = origin
    own = {"VISIBILITY_SQL_DATABASE": copy(databases, name), "SECONDARY_VISIBILITY_SQL_DATABASE": copy(databases, name)}
    return databases.env() | own | {"SCHEMA_MIGRATOR_STORES": ",".join(STORES)}


def versions(env: dict[str, str]) -> dict[str, str]:
    """Return the version that each store is at."""
    shown = json.loads(run_cli(env, "status", "--output", "json").stdout)
    return {entry["store"]: entry["version"] for entry in shown["stores"]}


def test_never_both(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come to the cutover at the same moment: one is in it, and the other then replays what was logged before."""
    done: list[tuple[str, str]] = []
    both_here, (come, drain, cut_over) = threading.Barrier(2), (rewrite._cut_over, rewrite._drain, cutover.cut_over)

    def come_together(*args: Any) -> float:  # noqa: ANN401 - passed on
        both_here.wait(PATIENCE)
        return come(*args)

    def drain_and_tell(pool: Any, *args: Any, **options: bool) -> None:  # noqa: ANN401 - passed on
        drain(pool, *args, **options)
        done.append(("drained", pool.work.store.store))

    def cut_over_slowly(work: Any, *args: Any) -> float:  # noqa: ANN401 - passed on
        done.append(("begins", work.store.store))
        time.sleep(0.5)
        locked = cut_over(work, *args)
        done.append(("ends", work.store.store))
        return locked

    monkeypatch.setattr(rewrite, "_cut_over", come_together)
    monkeypatch.setattr(rewrite, "_drain", drain_and_tell)
    monkeypatch.setattr(cutover, "cut_over", cut_over_slowly)
    ended = run_cli(env, "migrate", *ONLINE)
    assert ended.code == 0, ended.stderr
    first = next(i for i, (what, _) in enumerate(done) if what == "ends")
    assert [what for what, _ in done if what != "drained"] == ["begins", "ends", "begins", "ends"]
    second = next(store for store in STORES if store != done[first][1])
    assert done[first + 1 :] == [("drained", second), ("begins", second), ("ends", second)]
    assert versions(env) == dict.fromkeys(STORES, LATEST["visibility"])


def test_stopped_while_it_waits(env: dict[str, str], origin: tuple[Databases, str]) -> None:
    """SIGTERM ends the one in its cutover and the one that waits for it; the next run completes both."""
    patient = {"SCHEMA_MIGRATOR_DDL_LOCK_TIMEOUT": "600", "SCHEMA_MIGRATOR_HEARTBEAT": "0.1"}
    with ExitStack() as stack:
        for name in ("VISIBILITY_SQL_DATABASE", "SECONDARY_VISIBILITY_SQL_DATABASE"):
            reader = stack.enter_context(origin[0].connect(env[name]))
            stack.enter_context(reader.transaction())
            reader.execute(f"LOCK TABLE {TABLE} IN ACCESS SHARE MODE".encode())
        process = start_cli(env | patient, "migrate", *ONLINE)
        waiting = await_event(process, "online.waiting_for_cutover")
        assert (waiting["store"] in STORES, waiting["table"]) == (True, TABLE)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert (ended.code, time.monotonic() - began < PATIENCE) == (143, True)
    assert set(versions(env).values()) < {OLD, "1.10", "1.11", "1.12"}
    assert run_cli(env, "migrate", *ONLINE).code == 0
    assert versions(env) == dict.fromkeys(STORES, LATEST["visibility"])

"""Many runs at once, and runs that are stopped in the middle."""

import signal
import time
from collections.abc import Callable, Mapping

import pytest

from schema_migrator.planning.plan import SMALL_TABLE_BYTES
from schema_migrator.runs.advisory_lock import KEY
from support.postgres.databases import STORES, Databases
from support.postgres.statement_gate import ADVISORY, HELD, OURS, gate, pids
from support.program.command import Completed, await_event, finish, run_cli, start_cli, started
from support.program.references import NEWEST, References, newest, picture, run_here, start_by_vendor
from support.visibility.traffic import Writer, fill, fill_large
from support.waiting import await_none, await_one

BEFORE = {"default": (NEWEST, "1.18"), "visibility": (NEWEST, "1.9")}
PHASE = "waiting for old snapshots"
A_TABLE = "CREATE TABLE cluster_membership"
AN_INDEX = "by_temporal_int_01"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
BUILDING = f"{OURS} AND pid IN (SELECT pid FROM pg_stat_progress_create_index WHERE phase = '{PHASE}')"
SIZE = "SELECT pg_total_relation_size('executions_visibility')"


def run_ten(env: Mapping[str, str]) -> list[Completed]:
    """Start ten copies at once and wait for all."""
    return [finish(process) for process in [start_cli(env, "migrate") for _ in range(10)]]


def only(databases: Databases, store: str) -> dict[str, str]:
    """Return the environment for one store."""
    return databases.env() | {"SCHEMA_MIGRATOR_STORES": store}


def assert_upgraded(databases: Databases, references: References, *stores: str) -> None:
    """Compare with what the vendor's tool makes of the same beginning."""
    for store in stores:
        assert picture(databases, store) == references.picture(store, BEFORE[store], newest(store))


def assert_installed(databases: Databases, references: References, *stores: str) -> None:
    """Compare with what the vendor's tool makes of nothing."""
    for store in stores:
        assert picture(databases, store) == references.picture(store, newest(store))


def stop(env: Mapping[str, str], busy: Callable[[], int], number: int) -> tuple[Completed, float]:
    """Start a run, signal it once it is busy; return its end and the seconds that this took."""
    with started(env) as process:
        busy()
        process.send_signal(number)
        began = time.monotonic()
        return finish(process, 60), time.monotonic() - began


@pytest.fixture
def in_use(databases: Databases) -> Databases:
    """Let the vendor's tool make an older version of both stores, with a visibility table that isn't small."""
    for store in STORES:
        start_by_vendor(databases, store, BEFORE[store])
    with databases.connect("visibility") as connection:
        fill(connection)
        fill_large(connection)
        size = connection.execute(SIZE).fetchone()
    assert size is not None
    assert size[0] > SMALL_TABLE_BYTES
    return databases


def test_ten_at_once_install_once(databases: Databases, references: References) -> None:
    """Of ten copies on empty databases all succeed, and each step is recorded once."""
    runs = run_ten(databases.env())
    assert [run.code for run in runs] == [0] * 10, runs
    assert_installed(databases, references, *STORES)


def test_ten_at_once_upgrade_once(in_use: Databases, references: References) -> None:
    """Ten copies build indexes concurrently under a writer's hands: no deadlock, no invalid index."""
    with Writer(databases=in_use) as writer:
        runs = run_ten(in_use.env())
    assert [run.code for run in runs] == [0] * 10, runs
    assert writer.error is None
    assert writer.done > 10
    assert not any("deadlock" in run.stderr for run in runs)
    with in_use.connect("visibility") as connection:
        assert connection.execute(INVALID).fetchone() == (0,)
    assert_upgraded(in_use, references, *STORES)


def test_a_held_lock_ends_the_wait_at_its_deadline(databases: Databases, references: References) -> None:
    """Who meets another run for too long leaves with 4 and names it; that one is not disturbed."""
    env = only(databases, "default")
    with gate(databases, "default", A_TABLE) as shut, started(env) as first:
        shut.await_arrival()
        (holder,) = pids(shut.admin, ADVISORY)
        second = run_cli(env | {"SCHEMA_MIGRATOR_LOCK_TIMEOUT": "1"}, "migrate")
        shut.open()
        assert finish(first).code == 0
    assert second.code == 4
    assert f"pid {holder} (schema-migrator/" in second.stderr
    assert_installed(databases, references, "default")


ENDING = 5.0
"""Seconds that a server's process may take to end after its client."""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_undoes_an_installation(databases: Databases, references: References, number: int, code: int) -> None:
    """A signal during a statement ends it at once, and nothing of the installation or the lock remains."""
    empty, env = picture(databases, "default"), only(databases, "default")
    with gate(databases, "default", A_TABLE) as shut:
        ended, seconds = stop(env, shut.await_arrival, number)
        await_none(lambda: pids(shut.admin, OURS), ENDING)
        await_none(lambda: pids(shut.admin, ADVISORY), ENDING)
    assert (ended.code, seconds < 5) == (code, True), ended
    assert picture(databases, "default") == empty
    assert run_here(env, "migrate") == 0
    assert_installed(databases, references, "default")


@pytest.mark.parametrize("at", ["ADD COLUMN IF NOT EXISTS TemporalReportedProblems", AN_INDEX])
def test_a_signal_leaves_an_upgrade_to_the_next_run(in_use: Databases, references: References, at: str) -> None:
    """A signal in a step's transaction, or between its concurrent indexes: the next run ends the step."""
    env = only(in_use, "visibility")
    with gate(in_use, "visibility", at) as shut:
        ended, seconds = stop(env, shut.await_arrival, signal.SIGTERM)
        await_none(lambda: pids(shut.admin, OURS), ENDING)
    assert (ended.code, seconds < 5) == (143, True), ended
    assert run_here(env, "migrate") == 0
    assert_upgraded(in_use, references, "visibility")


def test_a_signal_ends_the_wait_for_another_run(databases: Databases) -> None:
    """Who waits for the lock hears signals too."""
    env = only(databases, "default")
    with databases.connect("default") as holder, started(env) as process:
        holder.execute(f"SELECT pg_advisory_lock({KEY})")
        await_event(process, "lock.waiting")
        process.send_signal(signal.SIGTERM)
        ended = finish(process, 5)
    assert ended.code == 143, ended


def test_a_killed_installation_leaves_nothing_in_the_way(databases: Databases, references: References) -> None:
    """A run that is killed in a statement leaves a backend at work: the next run waits for its end."""
    env = only(databases, "default")
    with gate(databases, "default", A_TABLE) as shut:
        ended, _ = stop(env, shut.await_arrival, signal.SIGKILL)
        assert ended.code == -signal.SIGKILL
        orphans = pids(shut.admin, HELD)
        assert len(orphans) == 1
        shut.lift()
        assert run_here(env, "migrate") == 0
        assert not set(orphans) & set(pids(shut.admin, OURS))
    assert_installed(databases, references, "default")


def test_a_killed_concurrent_build_is_built_again(in_use: Databases, references: References) -> None:
    """A run that is killed in CREATE INDEX CONCURRENTLY leaves an invalid index: the next run replaces it."""
    env = only(in_use, "visibility")
    with in_use.admin(in_use.visibility) as admin:
        with in_use.connect("visibility") as reader, reader.transaction():
            # A concurrent build waits for the end of every older snapshot.
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT 1")
            ended, _ = stop(env, lambda: await_one(lambda: pids(admin, BUILDING)), signal.SIGKILL)
        assert ended.code == -signal.SIGKILL
        assert run_here(env, "migrate") == 0
        assert admin.execute(INVALID).fetchone() == (0,)
    assert_upgraded(in_use, references, "visibility")

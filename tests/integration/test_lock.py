"""The lock's holder: kept by its heartbeat, lost without a sign of life, and the eye on what the worker does."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from schema_migrator import lock
from schema_migrator.errors import LockLost
from schema_migrator.source import Store
from schema_migrator.workers import Interrupt
from states import Site, site
from stores import Databases

NAME = "x1"
PHASE = "waiting for old snapshots"


@pytest.fixture
def store(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a store whose lock is lost after a second without a heartbeat."""
    monkeypatch.setattr(lock, "_TRY", lock._TRY.replace("'60s'", "'1s'"))
    return site(databases, "default")


def hold(store: Site, heartbeat: float = 10) -> AbstractContextManager[lock.Lock]:
    """Hold the store's lock."""
    settings = store.settings().store(Store.DEFAULT)
    return lock.hold(settings, Interrupt(), run=NAME, patience=0.1, wait=10, heartbeat=heartbeat)


def test_signs_of_life_keep_it(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transaction is never idle for as long as would end it, however seldom there is a word about progress."""
    monkeypatch.setattr(lock, "_SIGN_OF_LIFE_SECONDS", 0.2)
    with hold(store, heartbeat=600) as held, store.connect() as connection:
        time.sleep(2.5)
        held.assert_held(held.ask(connection))


def test_a_holder_that_has_gone_silent_loses_it(store: Site) -> None:
    """After a lost node the lock is free within a minute, and who held it does not commit."""
    with hold(store) as held, store.connect() as connection:
        time.sleep(2.5)
        with hold(store) as other:
            assert other.pid != held.pid
            with pytest.raises(LockLost) as lost:
                held.assert_held(held.ask(connection))
    assert str(lost.value) == (
        f"the advisory lock of backend {held.pid} went away during the work, which was rolled back; run it again"
    )


def watch(store: Site, work: Callable[[psycopg.Connection[Any]], object]) -> list[dict[str, Any]]:
    """Return what is said while a worker's connection does some work for two seconds."""
    with hold(store, heartbeat=0.2) as held, store.connect() as connection, capture_logs() as events:
        connection.execute("SELECT set_config('application_name', %s, false)", [held.worker])
        thread = threading.Thread(target=work, args=(connection,))
        thread.start()
        time.sleep(2)
        connection.cancel_safe()
        thread.join()
    return [event for event in events if event["event"] == "statement.running"]


def cancelled(connection: psycopg.Connection[Any], statement: str) -> None:
    """Run a statement that is cancelled after a while."""
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(statement.encode())


def test_a_long_statement_is_shown(store: Site) -> None:
    """What runs, for how long, and who is in its way since when."""
    store.run("CREATE TABLE busy (a int)")
    with store.connect() as other, other.transaction():
        other.execute("SET application_name = 'a report'; LOCK TABLE busy")
        events = watch(store, lambda worker: cancelled(worker, "ALTER TABLE busy\n  ADD b int"))
        last = events[-1]
        assert last["statement"] == "ALTER TABLE busy ADD b int"
        (blocker,) = last["blocked_by"]
        assert re.fullmatch(rf"pid {other.info.backend_pid} \(a report, open for [1-9] s\)", blocker)
        assert last["seconds"] >= 1


def test_the_phase_of_an_index_build_is_shown(store: Site) -> None:
    """PostgreSQL's own account of its progress goes with it."""
    store.run("CREATE TABLE busy AS SELECT n FROM generate_series(1, 1000) n")
    with store.connect() as reader, reader.transaction():
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        events = watch(store, lambda it: cancelled(it, "CREATE INDEX CONCURRENTLY slow ON busy (n)"))
    assert events[-1]["phase"] == PHASE


@pytest.mark.parametrize("how", ["", "CONCURRENTLY"])
def test_an_index_build_shows_how_far_it_is(store: Site, how: str) -> None:
    """The percent of the table that a long build has read grows, whether writers may go on meanwhile or not."""
    store.run(
        "CREATE TABLE busy AS SELECT n, repeat('x', 2000) AS wide FROM generate_series(1, 1500) n",
        "CREATE FUNCTION slow(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql"
        " AS $$ BEGIN PERFORM pg_sleep(0.004); RETURN n; END $$",
    )
    events = watch(store, lambda worker: cancelled(worker, f"CREATE INDEX {how} long ON busy (slow(n))"))
    percents = [event["percent"] for event in events if event["phase"] == "building index: scanning table"]
    assert percents == sorted(percents)
    assert 0 <= percents[0] < percents[-1] < 100

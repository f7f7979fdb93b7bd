"""The lock's holder: kept by its heartbeat, lost without a sign of life, and the eye on what the worker does."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from schema_migrator import __version__
from schema_migrator.concurrency import Interrupt
from schema_migrator.errors import LockHeld, LockLost
from schema_migrator.execution import vendor_tool
from schema_migrator.releases.source import Store
from schema_migrator.runs import advisory_lock
from support.postgres.databases import Databases
from support.program.store_driver import Site, site

NAME = "x1"
PHASE = "waiting for old snapshots"


@pytest.fixture
def store(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a store whose lock is lost after a second without a heartbeat."""
    monkeypatch.setattr(advisory_lock, "_HOLDER_TIMEOUT_SECONDS", 1)
    return site(databases, "default")


def hold(store: Site, heartbeat: float = 10) -> AbstractContextManager[advisory_lock.Lock]:
    """Hold the store's lock."""
    settings = store.settings().store(Store.DEFAULT)
    waits = advisory_lock.Waits(lock=0.1, database=10, heartbeat=heartbeat)
    return advisory_lock.hold(settings, Interrupt(), run=NAME, waits=waits)


def test_signs_of_life_keep_it(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transaction is never idle for as long as would end it, however seldom there is a word about progress."""
    monkeypatch.setattr(advisory_lock, "_SIGN_OF_LIFE_SECONDS", 0.2)
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
        f"backend {held.pid} lost the advisory lock during the work, which was rolled back; run it again"
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


OLD_WORKER = "schema-migrator/0.0.9 worker deadbeef"


@contextmanager
def left(connection: psycopg.Connection[Any]) -> Iterator[int]:
    """Let a session work as a worker of an earlier version would that lost its client; set its process."""
    with connection, suppress(psycopg.OperationalError), connection.pipeline():
        connection.execute("SELECT set_config('application_name', %s, false)", [OLD_WORKER])
        connection.execute("SELECT pg_sleep(60)")
        connection.pgconn.flush()
        yield connection.info.backend_pid
        connection.close()


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions that an earlier run left be ended at once, and be waited for no longer than two seconds."""
    monkeypatch.setattr(advisory_lock, "_ORPHAN_SECONDS", 0.5)


def ended(store: Site, pid: int) -> bool:
    """Return whether a session is gone, or goes within some seconds."""
    deadline = time.monotonic() + 5
    with store.databases.admin() as admin:
        while admin.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
    return True


def by_superuser(store: Site) -> Site:
    """Return the same store for a superuser's run."""
    engine = store.databases.engine
    return store.given(SQL_USER=engine.user, SQL_PASSWORD=engine.password)


@pytest.mark.parametrize("who", [lambda store: store, by_superuser], ids=["its own role", "a superuser"])
def test_what_an_earlier_version_left_is_ended(
    store: Site, monkeypatch: pytest.MonkeyPatch, who: Callable[[Site], Site]
) -> None:
    """A worker of another version that lost its client is ours: it is named, and ended."""
    hasten(monkeypatch)
    with left(store.connect()) as pid, capture_logs() as events, hold(who(store)):
        assert ended(store, pid)
    assert [(event["pid"], event["role"]) for event in events if event["event"] == "orphan.found"][:1] == [
        (pid, store.databases.user)
    ]


@pytest.mark.parametrize("who", [lambda store: store, by_superuser], ids=["the owner", "a superuser"])
def test_a_stranger_by_a_workers_name_is_not_ended(
    store: Site, monkeypatch: pytest.MonkeyPatch, who: Callable[[Site], Site]
) -> None:
    """A name proves nothing: whoever's role has nothing to do with ours is waited for and named, and left alone."""
    hasten(monkeypatch)
    stranger = store.databases.connect_server(store.name)
    with left(stranger) as pid:
        with pytest.raises(LockHeld) as held, hold(who(store)):
            raise AssertionError
        assert f'pid {pid} ({OLD_WORKER}) of the role "{store.databases.server_user}"' in held.value.message
        assert f"SELECT pg_terminate_backend({pid});" in held.value.hint
        with store.databases.admin() as admin:
            assert admin.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() == ("active",)


@pytest.mark.parametrize("who", [lambda store: store, by_superuser], ids=["its own role", "a superuser"])
def test_the_holder_is_told(store: Site, monkeypatch: pytest.MonkeyPatch, who: Callable[[Site], Site]) -> None:
    """By its pid, its pod and its age, as far as our role may see them, with the statement that ends it."""
    for name, value in {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "temporal-migrations-x7k2p"}.items():
        monkeypatch.setenv(name, value)
    with hold(who(store)) as holder, pytest.raises(LockHeld) as held, hold(store):
        raise AssertionError
    session = f"pid {holder.pid} (schema-migrator/{__version__} lock in temporal-migrations-x7k2p)"
    assert session in held.value.message
    seen = r" from [\d.:/]+ since 20.*" if who(store) is store else ", about which this role can see no more"
    assert re.fullmatch(seen, held.value.message.partition(session)[2])
    assert held.value.hint.endswith(f"SELECT pg_terminate_backend({holder.pid});")


def test_what_a_role_may_not_end_is_said(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that was replaced by another, both members of the owner, left a session: the new one may not end it."""
    hasten(monkeypatch)
    engine, old = store.databases.engine, store.databases
    before = engine.connect(store.name, user=old.vendor_user, password=old.vendor_password)
    with left(before) as pid, capture_logs() as events:
        with pytest.raises(LockHeld) as held, hold(store):
            raise AssertionError
        assert f'of the role "{old.vendor_user}"' in held.value.message
    said = [event for event in events if event["event"] == "orphan.not_ended"]
    assert {event["pid"] for event in said} == {pid}
    assert {event["role"] for event in said} == {old.vendor_user}


def test_a_login_that_acts_as_another_role_ends_its_own(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It logs in as itself, and the role that it then acts as might not end its sessions."""
    hasten(monkeypatch)
    engine, names = store.databases.engine, store.databases
    acting = store.given(SQL_USER=names.vendor_user, SQL_PASSWORD=names.vendor_password)
    before = engine.connect(store.name, user=names.vendor_user, password=names.vendor_password)
    with left(before) as pid, hold(acting):
        assert ended(store, pid)


def test_the_vendors_tool_is_ended_as_our_role_alone(store: Site) -> None:
    """A stranger that bears the name of the tool's session is left alone, even by a superuser."""
    stranger = store.databases.connect_server(store.name)
    with left(stranger) as pid, store.databases.admin(store.name) as admin:
        assert admin.execute(vendor_tool._END_WORKERS.encode(), [OLD_WORKER]).fetchall() == []
        assert admin.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() == ("active",)

"""What a server with a WAL archive, or with slots that nothing reads, does to an online rewrite."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from schema_migrator.demo.embedded_postgres import private_server
from schema_migrator.errors import ServerBusy
from schema_migrator.online import throttle
from support.postgres.databases import fresh
from support.postgres.engine import Connection, Engine
from support.postgres.standbys import programs
from support.program.command import await_event, finish, run_cli
from support.program.store_driver import Site, site
from support.visibility import rewriting
from support.visibility.rewriting import Origin, events
from support.waiting import await_true

ROWS = 300
ARCHIVING = {"archive_mode": "on", "archive_command": "true", "wal_level": "logical", "max_connections": "100"}
WORKS = """
SELECT last_archived_wal IS NOT NULL AND coalesce(last_failed_time < last_archived_time, true) FROM pg_stat_archiver
"""
FAILS = "SELECT coalesce(last_failed_time > last_archived_time, false) FROM pg_stat_archiver"
SWITCH = "SELECT pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()"


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """Start a server that archives, with a store at 1.12 with rows, to be copied."""
    with private_server(settings=ARCHIVING, bindir=programs()) as server:
        engine = Engine.of(server)
        with fresh(engine) as databases:
            yield rewriting.origin(databases, "1.12", ROWS)


@pytest.fixture
def store(origin: Origin) -> Site:
    """Return a copy, for a plain owner."""
    with origin.databases.admin() as admin:
        archived(admin)
    return site(origin.databases, "visibility").at(origin.copy()).given(SCHEMA_MIGRATOR_REWRITE="online")


def archived(admin: Connection) -> None:
    """Let the server archive a segment, and wait for that."""
    admin.execute(SWITCH.encode())
    await_true(lambda: admin.execute(WORKS.encode()).fetchone() == (True,))


@contextmanager
def failing(origin: Origin) -> Iterator[None]:
    """Let the archiver fail during the block."""
    with origin.databases.admin() as admin:
        admin.execute("ALTER SYSTEM SET archive_command = 'false'")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute(SWITCH.encode())
        await_true(lambda: admin.execute(FAILS.encode()).fetchone() == (True,))
        try:
            yield
        finally:
            admin.execute("ALTER SYSTEM SET archive_command = 'true'")
            admin.execute("SELECT pg_reload_conf()")


def test_an_archive_that_fails_is_named_before_anything_begins(origin: Origin, store: Site) -> None:
    """Exit 1, by the run and by `plan`; unless it is not watched."""
    with failing(origin):
        refusal = store.refused()
        assert isinstance(refusal, ServerBusy)
        assert refusal.message.startswith("the server has archived no WAL for ")
        assert store.foresee().obstacle.startswith("the server has archived no WAL for ")
        told = run_cli(origin.env(store.name), "plan", *rewriting.ONLINE)
        assert "; the limit is 1.0 GB; its last attempt, 0000" in told.stdout
        assert store.migrate(SCHEMA_MIGRATOR_MAX_ARCHIVE_LAG="off").outcomes


def test_an_archive_that_works_again_lets_the_run_go_on(origin: Origin, store: Site) -> None:
    """It pauses while the archiver fails, and says why."""
    with origin.held(store.name, "--heartbeat", "1") as held:
        with failing(origin):
            paused = await_event(held.process, "online.paused")
        held.holder.execute("COMMIT")
        assert str(paused["reason"]).startswith("the server has archived no WAL for ")
        ended = finish(held.process)
    assert ended.code == 0, ended.stderr


def test_an_archive_that_is_behind(origin: Origin, store: Site) -> None:
    """Segments that wait count, without any right."""
    with failing(origin), origin.databases.admin() as admin:
        for _ in range(3):
            admin.execute(SWITCH.encode())
        seen = store.foresee().found
    assert seen is not None
    assert seen[1].archive is not None
    assert (seen[1].archive.behind or 0) >= 2 * 16 * 1024 * 1024


def test_slow_commits_halve_the_pool(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection works while a small commit takes long, all of them again when it does not; each change is told."""
    slow: list[tuple[throttle.Throttle, Iterator[float]]] = []

    def commit(used: throttle.Throttle, _: Connection) -> float:
        if not any(one is used for one, _ in slow):
            slow.append((used, iter([0.3, 0.3, 0.3, 0.2])))
        return next(next(seconds for one, seconds in slow if one is used), 0.1)

    monkeypatch.setattr(throttle, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(throttle.Throttle, "_commit", commit)
    with capture_logs() as logged:
        assert store.migrate(SCHEMA_MIGRATOR_JOBS="4", SCHEMA_MIGRATOR_LOG_LEVEL="info").outcomes
    told = [(event["allowed"], event["commit_seconds"]) for event in logged if event["event"] == "online.workers"]
    assert told[-4:] == [(2, 0.3), (1, 0.3), (2, 0.1), (4, 0.1)]  # the check of all rows had a pool of its own


def test_a_commit_is_measured(origin: Origin, store: Site) -> None:
    """No commit is as quick as that: one connection is left, for the check of all rows and for the rewrite."""
    ended = origin.run(store.name, "--max-commit-seconds", "0.0001", "--jobs", "2")
    assert ended.code == 0, ended.stderr
    assert [event["allowed"] for event in events(ended) if event["event"] == "online.workers"] == [1, 1]


def test_a_slot_that_retains_too_much(origin: Origin, store: Site) -> None:
    """One that nothing reads is refused above the limit; left out by its name it does not count."""
    with origin.databases.admin() as admin:
        admin.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        try:
            for _ in range(3):
                admin.execute(SWITCH.encode())
            refusal = store.refused(SCHEMA_MIGRATOR_MAX_SLOT_WAL="1MB")
            assert isinstance(refusal, ServerBusy)
            assert refusal.message.startswith('the slot "forgotten", which nothing reads, retains ')
            limits = {"SCHEMA_MIGRATOR_MAX_SLOT_WAL": "1MB", "SCHEMA_MIGRATOR_IGNORE_REPLICAS": "forgotten"}
            assert store.migrate(**limits).outcomes
        finally:
            admin.execute("SELECT pg_drop_replication_slot('forgotten')")


def test_a_slot_that_is_about_to_lose_its_wal(origin: Origin, store: Site) -> None:
    """max_slot_wal_keep_size would invalidate it: the reader would have to be recreated."""
    with origin.databases.admin() as admin:
        admin.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("SELECT pg_create_physical_replication_slot('late', true)")
        try:
            for _ in range(4):
                admin.execute(SWITCH.encode())
            refusal = store.refused()
            assert isinstance(refusal, ServerBusy)
            assert refusal.message.startswith('the slot "late" loses its WAL after another ')
        finally:
            admin.execute("SELECT pg_drop_replication_slot('late')")
            admin.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
            admin.execute("SELECT pg_reload_conf()")

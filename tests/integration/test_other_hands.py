"""Somebody else's hands on the database while ours work: nothing is committed on a state that is not ours."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from schema_migrator.errors import NotAsRehearsed, StatementTimeout, TableLockTimeout, VersionMoved
from schema_migrator.planning import preflight
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.program.command import await_event, finish, started
from support.program.store_driver import Site, site
from support.visibility.executions import fill
from support.waiting import await_true

TABLE = "executions_visibility"
ON_INDEX = """
CREATE FUNCTION meddle() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_schema() = 'public' THEN
    {}
  END IF;
END $$;
CREATE EVENT TRIGGER meddle ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION meddle()
"""
RACE = "UPDATE schema_version SET curr_version = '7.7' WHERE curr_version <> '7.7';"
SPOIL = "ALTER TABLE executions_visibility ALTER temporalexternalpayloadcount SET NOT NULL;"
SLOW = "PERFORM pg_sleep(1);"


@pytest.fixture
def store(databases: Databases) -> Site:
    """Return a visibility store with one step to go."""
    return site(databases, "visibility").install("1.13")


def test_a_version_that_moves_between_two_tries(databases: Databases, store: Site) -> None:
    """While a step waits for its table another tool moves the version: the step is not run on top of that."""
    env = databases.env() | dict(store.variables) | {"SCHEMA_MIGRATOR_LOG_LEVEL": "info"}
    with store.connect() as writer, started(env | {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "60"}) as process:
        with writer.transaction():
            writer.execute(f"LOCK TABLE {TABLE} IN ROW EXCLUSIVE MODE".encode())
            await_event(process, "table.busy")
            store.run("UPDATE schema_version SET curr_version = '1.14'")
        done = finish(process)
    assert done.code == 22
    assert done.stderr.splitlines()[-1] == (
        f'error: visibility: database "{store.name}" was at 1.13, but is now at 1.14; '
        "another tool is migrating it: wait for that to finish, then run this again"
    )
    assert "temporalexternalpayloadcount" not in store.dump()


def test_a_version_that_moves_under_our_hands(store: Site) -> None:
    """The version moves by compare-and-set: where it is not what the step began with, all of it is rolled back."""
    store.admin(ON_INDEX.format(RACE))
    refusal = store.refused()
    assert isinstance(refusal, VersionMoved)
    assert str(refusal) == (
        f'visibility: the version of "{store.name}" ends as 7.7, expected 1.14; '
        "something else writes schema_version: find out what, then run this again"
    )


@pytest.mark.parametrize("begun", [0, 1])
def test_a_step_that_ends_otherwise(store: Site, begun: int) -> None:
    """Whole or resumed, a step is compared with its rehearsal before the commit, and rolled back."""
    store.begin("1.14", begun)
    store.admin(ON_INDEX.format(SPOIL))
    refusal = store.refused()
    assert isinstance(refusal, NotAsRehearsed)
    assert refusal.message.startswith(
        "step 1.14 ended differently from its rehearsal and was rolled back: "
        f"column {TABLE}.temporalexternalpayloadcount is bigint NOT NULL GENERATED ALWAYS AS "
    )


def test_a_statement_that_takes_too_long(store: Site) -> None:
    """With a limit for statements a slow one is ended, and its step rolled back."""
    store.admin(ON_INDEX.format(SLOW))
    refusal = store.refused(SCHEMA_MIGRATOR_STATEMENT_TIMEOUT="0.5")
    assert isinstance(refusal, StatementTimeout)
    assert str(refusal) == (
        "visibility: a statement was cancelled: canceling statement due to statement timeout (in public.meddle()); "
        "raise SCHEMA_MIGRATOR_STATEMENT_TIMEOUT, or the role's own statement_timeout"
    )
    assert store.migrate(SCHEMA_MIGRATOR_STATEMENT_TIMEOUT="30").outcomes


@contextmanager
def building(store: Site, name: str) -> Iterator[int]:
    """Let somebody else build an index CONCURRENTLY during the block; give the pid of the backend."""
    with store.connect() as looker, store.connect() as reader, store.connect() as builder:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")

        def build() -> None:
            builder.execute(f"CREATE INDEX CONCURRENTLY {name} ON {TABLE} (run_id)".encode())

        thread = threading.Thread(target=build)
        thread.start()
        await_true(lambda: invalid(looker))
        yield builder.info.backend_pid
        reader.execute("ROLLBACK")
        thread.join()


def invalid(connection: Connection) -> list[tuple[Any, ...]]:
    """Return the names of invalid indexes."""
    return connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").fetchall()


def test_an_index_that_somebody_is_building(store: Site) -> None:
    """It is invalid as long as that takes, and not for us to build again."""
    store.run("DROP INDEX by_status")
    with building(store, "by_status") as pid:
        refusal = store.refused()
    assert isinstance(refusal, TableLockTimeout)
    assert str(refusal) == (
        f'visibility: backend {pid} is building the index "by_status" right now; wait for it to finish, then run'
        " this again"
    )


def test_what_an_interrupted_rebuild_left(store: Site) -> None:
    """An invalid by_status_ccnew, as REINDEX CONCURRENTLY leaves it, is dropped; another invalid index is not."""
    store.run(*(f"CREATE INDEX {name} ON {TABLE} (run_id)" for name in ("by_status_ccnew", "own_ccnew")))
    store.admin("UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text LIKE '%\\_ccnew'")
    done = store.migrate()
    assert done.verdict is not None
    assert done.verdict.equal
    assert [str(one.key) for one in done.verdict.difference.extra] == [f"index {TABLE}.own_ccnew"]


def test_what_a_rebuild_left_goes_before_an_online_rewrite(databases: Databases) -> None:
    """The rewritten table has neither by_status_ccnew, which the run drops first, nor an index that is invalid."""
    store = site(databases, "visibility").install("1.12").given(SCHEMA_MIGRATOR_REWRITE="online")
    with store.connect() as owner:
        fill(owner, 50)
    store.run(f"CREATE INDEX by_status_ccnew ON {TABLE} (run_id)")
    store.admin(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text ~ '^by_(status_ccnew|bool_01)$'"
    )
    done = store.migrate()
    assert (done.plan.online is not None, done.rebuilt) == (True, ("by_bool_01", "by_status_ccnew"))
    with store.connect() as owner:
        assert invalid(owner) == []
        assert owner.execute("SELECT to_regclass('by_status_ccnew')").fetchone() == (None,)
    assert store.verify().equal


def test_a_long_transaction_is_named(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it can hold up a step: whose it is, and since when."""
    monkeypatch.setattr(preflight, "_LONG_SECONDS", 0.1)
    with store.connect() as other, other.transaction(), capture_logs() as events:
        other.execute("SELECT pg_sleep(0.2)")
        store.plan()
        pid = other.info.backend_pid
    (warning,) = [event for event in events if event["event"] == "transaction.long"]
    assert (warning["log_level"], warning["pid"], warning["role"]) == ("warning", pid, store.databases.user)

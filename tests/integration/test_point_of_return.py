"""The point of return: what it says, what it says when it cannot be seen, and a restore to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from schema_migrator.concurrency import Interrupt
from schema_migrator.postgres import connection
from schema_migrator.runs import point_of_return
from support.postgres.archive import Archiving, archiving
from support.postgres.databases import STORES, Databases, dump, fresh
from support.postgres.older_servers import PINNED, installed
from support.program.command import Completed, run_cli
from support.program.store_driver import site

OLD = "1.29.1"


def migrated(env: dict[str, str], *args: str, code: int = 0) -> Completed:
    """Migrate; assert how it ends."""
    done = run_cli(env | {"SCHEMA_MIGRATOR_OUTPUT": "json"}, "migrate", *args)
    assert done.code == code, done.stderr
    return done


def points(done: Completed) -> list[Any]:
    """Return the points of return in a result."""
    return [store["point_of_return"] for store in json.loads(done.stdout)["stores"]]


def recorded(done: Completed) -> list[dict[str, Any]]:
    """Return the events that record a point of return."""
    events = [json.loads(line) for line in done.stderr.splitlines()]
    return [event for event in events if event["event"] == "point_of_return.recorded"]


def dumps(engine: Any, databases: Databases) -> list[str]:  # noqa: ANN401 - an engine
    """Return what is in both databases, with all rows."""
    return [dump(engine, databases.names[store], "--restrict-key=x") for store in STORES]


@contextmanager
def saved(bindir: Path | None = None) -> Iterator[tuple[Archiving, Databases]]:
    """Yield a server with two stores of an older release, a base backup of it, and rows that are younger."""
    with archiving(bindir) as kept, fresh(kept.engine) as databases:
        for store in STORES:
            site(databases, store).install(release=OLD)
        kept.back_up()
        with databases.connect("default") as connection:
            connection.execute("INSERT INTO shards (shard_id, range_id, data, data_encoding) VALUES (7, 1, 'x', 'y')")
        yield kept, databases


def restore(bindir: Path | None = None) -> None:
    """Migrate, restore to the point of return, and compare with what was there before."""
    with saved(bindir) as (kept, databases):
        before = dumps(kept.engine, databases)
        found = points(migrated(databases.env()))
        assert dumps(kept.engine, databases) != before
        first = min(found, key=lambda point: lsn(point["lsn"]))
        target = {"target_lsn": first["lsn"], "target_timeline": str(first["timeline"]), "target_inclusive": "off"}
        with kept.restored(**target) as engine:
            assert dumps(engine, databases) == before
            assert timeline(engine) == first["timeline"] + 1


def lsn(text: str) -> int:
    """Return a WAL position as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def timeline(engine: Any) -> int:  # noqa: ANN401 - an engine
    """Return the timeline of a server."""
    with engine.connect() as admin:
        ((name,),) = admin.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchall()
        return int(name[:8], 16)


def test_a_restore() -> None:
    """It brings back what was committed before, and nothing of the migration."""
    restore()


@pytest.mark.matrix
@pytest.mark.parametrize("major", PINNED)
def test_a_restore_of_an_older_server(major: str) -> None:
    """The same on every PostgreSQL."""
    restore(installed(major) / "bin")


def test_what_is_not_on_the_disk_yet_lies_before_it(databases: Databases) -> None:
    """What others commit without waiting for the disk is committed too, and a restore has it."""
    with connection.connect(site(databases, "default").settings().stores[0], Interrupt(), patience=60) as ours:
        with databases.connect("default") as other:
            other.execute("SET synchronous_commit = off")
            other.execute("CREATE TABLE theirs ()")
            ((end,),) = other.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
        point = point_of_return.record(ours, databases.user)
    assert point.lsn is not None
    assert lsn(point.lsn) >= lsn(end)


def test_where_it_is_recorded(databases: Databases, tmp_path: Path) -> None:
    """In the result, the log and the termination message, whatever is logged; a second run changes nothing."""
    log = tmp_path / "termination-log"
    log.touch()
    env = databases.env() | {"SCHEMA_MIGRATOR_TERMINATION_LOG": str(log)}
    assert points(migrated(env, "--temporal-version", OLD)) == [None, None]  # nothing was there before
    began = datetime.now(UTC)
    done = migrated(env)
    found = recorded(done)
    assert [event["store"] for event in sorted(found, key=lambda event: str(event["store"]))] == list(STORES)
    by_store = {event["store"]: {name: event[name] for name in ("time", "lsn", "timeline")} for event in found}
    assert points(done) == [by_store[store] for store in STORES]
    assert {event["level"] for event in found} == {"info"}
    for point in by_store.values():
        assert began <= datetime.fromisoformat(point["time"]) <= datetime.now(UTC)
        assert point["timeline"] == 1
    first, *lines = log.read_text().splitlines()
    assert first == "exit code 0"
    assert sorted(lines) == [
        f"point of return of the {store} store: {point['time']}, LSN {point['lsn']}, timeline 1"
        for store, point in sorted(by_store.items())
    ]
    log.write_text("")
    again = migrated(env, "--log-level", "error")
    assert (points(again), again.stderr, log.read_text()) == ([None, None], "", "")


def test_a_run_that_fails(databases: Databases, tmp_path: Path) -> None:
    """The termination message says why, and where to go back to, although nothing is logged."""
    site(databases, "visibility").install(release=OLD)
    log = tmp_path / "termination-log"
    log.touch()
    with databases.connect("visibility") as holder, holder.transaction():
        holder.execute("LOCK TABLE executions_visibility IN ACCESS SHARE MODE")
        env = databases.env("visibility") | {"SCHEMA_MIGRATOR_TERMINATION_LOG": str(log)}
        brief = ("--wait-timeout", "1", "--store", "visibility", "--log-level", "error", "--rewrite", "in-place")
        migrated(env, *brief, code=1)
    first, *_, last = log.read_text().splitlines()
    assert first.startswith("exit code 1: visibility: ")
    assert last.startswith("point of return of the visibility store: 2")


def test_a_role_that_may_not_see_it(databases: Databases) -> None:
    """The run goes on; it records the time, and says what would let it see the position."""
    revoke = "REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn), pg_current_wal_insert_lsn() FROM PUBLIC"
    name = databases.name("default")
    with databases.admin(name) as admin:
        admin.execute(revoke)
    site(databases, "default").install(release=OLD)
    done = migrated(databases.env("default"), "--store", "default")
    (event,) = recorded(done)
    (point,) = points(done)
    assert (event["level"], event["lsn"], event["timeline"]) == ("warning", None, None)
    assert point == {"time": event["time"], "lsn": None, "timeline": None}
    assert event["reason"].startswith("permission denied for function ")
    with databases.admin(name) as admin:
        grant = event["remedy"].partition(": ")[2].partition("; ")[0]
        admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        admin.execute(grant)
    with databases.connect("default") as owner:
        assert owner.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
    with databases.connect_server(name) as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute("SELECT pg_current_wal_insert_lsn()")

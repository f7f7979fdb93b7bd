"""What a run says of itself while an online rewrite lasts."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from schema_migrator.errors import TableLockTimeout
from schema_migrator.online import backfill
from support.postgres.databases import Databases
from support.postgres.rows import fill_table
from support.program.store_driver import Site, site
from support.vendor.kill_sweep import copy
from support.visibility.executions import fill

ROWS = 2000
ONLINE = {"SCHEMA_MIGRATOR_REWRITE": "online", "SCHEMA_MIGRATOR_HEARTBEAT": "0.01"}


@pytest.fixture
def used(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Give a visibility store of 1.9 with rows, of which a batch takes few."""
    monkeypatch.setattr(backfill, "_MOST", 200)
    made = site(databases, "visibility", **ONLINE).install("1.9")
    made.run("ALTER TABLE executions_visibility SET (autovacuum_enabled = off)")
    with made.connect() as connection:
        fill(connection, ROWS)
    return made


def said(used: Site, event: str) -> list[Mapping[str, Any]]:
    """Migrate; return the events of a kind."""
    with capture_logs() as logs:
        assert [str(one.version) for one in used.migrate().outcomes][-1] == "1.14"
    return [one for one in logs if one["event"] == event]


def test_a_copy_says_how_far_it_is(used: Site) -> None:
    """At every heartbeat: rows copied and left, how fast, and how long it will take."""
    used.run("ANALYZE executions_visibility")
    events = said(used, "online.copying")
    rows = [one["rows"] for one in events]
    assert len(events) > 1
    assert rows == sorted(rows)
    for one in events:
        assert one["rows"] + one["left"] == ROWS
        assert one["percent"] == round(100 * one["rows"] / ROWS)
        assert one["rows_per_second"] > 0
        assert one["seconds_left"] == pytest.approx(one["left"] / one["rows_per_second"], abs=1)


def test_a_copy_of_rows_that_nobody_counted_does_not_say_what_is_left(used: Site) -> None:
    """Without statistics only what was copied and how fast is known."""
    used.run("TRUNCATE executions_visibility")
    with used.connect() as connection:
        fill_table(connection, "executions_visibility", ROWS)
    events = said(used, "online.copying")
    assert events
    assert all({"event", "log_level", "table", "rows", "rows_per_second"} == one.keys() for one in events)


def test_indexes_are_counted(used: Site) -> None:
    """While the indexes are built, it is said how many are left."""
    events = said(used, "online.indexing")
    assert events
    assert all(0 <= one["left"] < one["total"] for one in events)


def test_who_keeps_a_table_busy_is_named(used: Site) -> None:
    """With pid, application and since when; not who works in another database, a copy with tables of the same oid."""
    there = used.at(copy(used.databases, used.name))
    hurry = {"SCHEMA_MIGRATOR_REWRITE": "in-place", "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "2"}
    with used.connect() as here, here.transaction(), there.connect() as other, other.transaction():
        for connection in (here, other):
            connection.execute("SET application_name = 'a report'; LOCK TABLE executions_visibility IN SHARE MODE")
        with capture_logs() as logs, pytest.raises(TableLockTimeout):
            used.migrate(**hurry)
        pid = here.info.backend_pid
    held = [one["held_by"] for one in logs if one["event"] == "table.busy"]
    assert held
    assert all(re.fullmatch(rf"pid {pid} \(a report, open for \d+ s\)", who) for (who,) in held)

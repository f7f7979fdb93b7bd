"""What a run says of itself while an online rewrite lasts."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from schema_migrator.errors import TableLockTimeout
from schema_migrator.events import Interval
from schema_migrator.online import backfill
from support.postgres.databases import Databases
from support.postgres.rows import fill_table
from support.program.store_driver import Site, site
from support.vendor.kill_sweep import copy
from support.visibility.executions import fill

ROWS = 2000
ONLINE = {"SCHEMA_MIGRATOR_REWRITE": "online"}


@pytest.fixture
def used(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Give a visibility store of 1.9 with rows, of which a batch takes few, and a heartbeat for each piece of work.

    The shortest one that can be set is too long: two workers may finish the last pieces at almost the same time.
    """
    monkeypatch.setattr(backfill, "_MOST", 200)
    monkeypatch.setattr(Interval, "due", lambda _: True)
    made = site(databases, "visibility", **ONLINE).install("1.9")
    made.run("ALTER TABLE executions_visibility SET (autovacuum_enabled = off)")
    with made.connect() as connection:
        fill(connection, ROWS)
    return made


def progress(used: Site, phase: str) -> list[Mapping[str, Any]]:
    """Migrate; return the progress of a phase."""
    with capture_logs() as logs:
        assert [str(outcome.version) for outcome in used.migrate().outcomes][-1] == "1.14"
    return [event for event in logs if event["event"] == "online.progress" and event["phase"] == phase]


def test_a_copy_says_how_far_it_is(used: Site) -> None:
    """At every heartbeat: rows copied and left, how fast, how long it will take, and that nothing brakes."""
    used.run("ANALYZE executions_visibility")
    events = progress(used, "backfill")
    rows = [event["done"] for event in events]
    assert len(events) > 1
    assert rows == sorted(rows)
    for event in events:
        assert event["done"] + event["left"] == ROWS
        assert event["percent"] == round(100 * event["done"] / ROWS)
        assert event["per_second"] > 0
        assert event["seconds_left"] == pytest.approx(event["left"] / event["per_second"], abs=1)
        assert (event["unit"], event["workers"], event["brake"]) == ("rows", 2, None)


def test_a_copy_of_rows_that_nobody_counted_does_not_say_what_is_left(used: Site) -> None:
    """Without statistics only what was copied and how fast is known."""
    used.run("TRUNCATE executions_visibility")
    with used.connect() as connection:
        fill_table(connection, "executions_visibility", ROWS)
    events = progress(used, "backfill")
    assert events
    assert all(event["done"] > 0 and event["per_second"] > 0 for event in events)
    assert {(event["left"], event["percent"], event["seconds_left"]) for event in events} == {(None, None, None)}


@pytest.mark.parametrize(
    ("phase", "unit"), [("index builds", "bytes"), ("value checks", "page ranges"), ("proof", "page ranges")]
)
def test_each_phase_says_how_far_it_is(used: Site, phase: str, unit: str) -> None:
    """In percent of the bytes of the indexes, or of the pages of the table, up to all of it."""
    events = progress(used, phase)
    assert {event["unit"] for event in events} == {unit}
    assert [event["percent"] for event in events] == sorted(event["percent"] for event in events)
    assert (events[-1]["percent"], events[-1]["left"]) == (100, 0)


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

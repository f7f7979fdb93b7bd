"""A store that another run moves on between two looks of ours: nobody is told of a state that never was."""

from collections.abc import Callable
from typing import Any

import pytest

from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.state import At, Overview
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.program.command import run_process
from support.program.store_driver import Site, site

COMMANDS: dict[str, Callable[[Site], Any]] = {
    "status": lambda store: store.status().up_to_date,
    "plan": lambda store: store.plan().empty,
    "verify": lambda store: store.verify().equal,
    "migrate": lambda store: store.migrate().plan.empty,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("behind", ["1.9", "1.13"])
def test_another_run_between_two_looks(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, command: str, behind: str
) -> None:
    """The version was read before the other run's commit, and the objects after it."""
    store = site(databases, "visibility").install(behind)
    looked, real = [], examine.read_live

    def read_live(conn: Connection, overview: Overview) -> examine.LiveSchema:
        if not looked:
            other = run_process(databases.env() | store.variables, "migrate", "--rewrite", "in-place")
            assert other.code == 0, other.stderr
        looked.append(True)
        return real(conn, overview)

    monkeypatch.setattr(examine, "read_live", read_live)
    assert COMMANDS[command](store)
    assert looked
    assert isinstance(store.status().state, At)


def test_a_store_that_never_comes_to_rest(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decided on as it is, after a few looks."""
    store = site(databases, "visibility").install("1.13")
    store.run("ALTER TABLE executions_visibility DROP COLUMN TemporalReportedProblems")
    real, looks = examine.look, []

    def look(place: examine.StoreHandle) -> object:
        looks.append(True)
        store.run(f"CREATE INDEX own_{len(looks)} ON executions_visibility (status); DROP INDEX own_{len(looks)}")
        store.run(f"UPDATE schema_version SET creation_time = now(), min_compatible_version = '0.{len(looks)}'")
        return real(place)

    monkeypatch.setattr(examine, "look", look)
    assert not store.verify().equal
    assert 3 < len(looks) < 10

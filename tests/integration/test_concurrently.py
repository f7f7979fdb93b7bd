"""Indexes that are built CONCURRENTLY: an invalid one is never taken for a finished one."""

import pytest

from schema_migrator.errors import StatementFailed
from schema_migrator.execution import concurrent_indexes
from schema_migrator.planning import plan
from schema_migrator.releases.statements import Statement
from schema_migrator.runs.context import RunContext
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.program.store_driver import Site, site

IN_PLACE = {"SCHEMA_MIGRATOR_REWRITE": "in-place"}


@pytest.fixture
def used(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Give a visibility store of 1.12, whose next step builds indexes CONCURRENTLY."""
    monkeypatch.setattr(plan, "SMALL_TABLE_BYTES", -1)
    return site(databases, "visibility", **IN_PLACE).install("1.12")


def broken(used: Site) -> list[str]:
    """Return the invalid indexes."""
    with used.connect() as connection:
        found = connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")
        return [name for (name,) in found.fetchall()]


def test_an_index_that_ends_invalid_is_refused(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL reports success, and marks the index as invalid: the run fails, the next one builds it again."""
    once: list[str] = []
    alone = concurrent_indexes._run_alone

    def breaking(conn: Connection, statement: Statement) -> None:
        alone(conn, statement)
        if statement.concurrent_index and not once:
            once.append(statement.concurrent_index)
            invalidate(used, once[0])

    monkeypatch.setattr(concurrent_indexes, "_run_alone", breaking)
    with pytest.raises(StatementFailed) as caught:
        used.migrate()
    assert str(caught.value) == (
        f'visibility: the index "{once[0]}" was built, but PostgreSQL marks it as invalid;'
        " run this again: it drops the invalid index and rebuilds it"
    )
    assert broken(used) == once
    assert [str(one.version) for one in used.migrate().outcomes][-1] == "1.14"
    assert broken(used) == []


def test_an_invalid_index_in_the_way_is_dropped(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever left it there just before: IF NOT EXISTS would take it for finished."""
    once: list[str] = []
    one = concurrent_indexes._run_one

    def late(work: RunContext, conn: Connection, schema: str, statement: Statement) -> None:
        if statement.concurrent_index and not once:
            once.append(statement.concurrent_index)
            used.run(statement.plain)
            invalidate(used, once[0])
        one(work, conn, schema, statement)

    monkeypatch.setattr(concurrent_indexes, "_run_one", late)
    assert [str(done.version) for done in used.migrate().outcomes][-1] == "1.14"
    assert once
    assert broken(used) == []


def invalidate(used: Site, index: str) -> None:
    """Mark an index as an interrupted build leaves it."""
    used.admin(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.{index}'::regclass")

"""In whatever order the engine's and the writers' statements come, the copy is what the table is at the cutover."""

import os
from collections.abc import Iterator

import pytest

from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import Databases, fresh
from support.postgres.engine import CHEAP, Engine
from support.visibility.planted_faults import FAULTS
from support.visibility.schedules import SERVER, schedules, staged

SLICES = 50
PER_SLICE = int(os.environ.get("SCHEMA_MIGRATOR_TEST_SCHEDULES", "500")) // SLICES
UNTIL_FOUND = 200


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Start a server that has prepared transactions."""
    with private_server(settings={**CHEAP, **SERVER}) as server:
        yield Engine.of(server)


@pytest.fixture
def own(engine: Engine) -> Iterator[Databases]:
    """Create databases on it."""
    with fresh(engine) as databases:
        yield databases


@pytest.mark.parametrize("part", range(SLICES))
def test_the_copy_is_what_the_table_is(own: Databases, part: int) -> None:
    """Also if the engine is killed, up to three times in a schedule."""
    with staged(own) as stage:
        outcomes = list(schedules(stage, range(part * PER_SLICE, (part + 1) * PER_SLICE)))
    assert [outcome for outcome in outcomes if outcome.problem] == []
    assert sum(outcome.kills for outcome in outcomes) > 0
    assert min(outcome.turns for outcome in outcomes) > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(own: Databases, fault: str) -> None:
    """Each fault of the protocol loses, doubles or keeps a row in one of the first schedules."""
    with FAULTS[fault](), staged(own) as stage:
        found = next((outcome for outcome in schedules(stage, range(UNTIL_FOUND)) if outcome.problem), None)
    assert found is not None


def test_a_seed_comes_back_with_its_schedule(own: Databases) -> None:
    """The same seed gives the same turns and kills."""
    with staged(own) as stage:
        assert list(schedules(stage, [1, 2, 3])) == list(schedules(stage, [1, 2, 3]))
        assert len({outcome.turns for outcome in schedules(stage, [1, 2, 3])}) > 1

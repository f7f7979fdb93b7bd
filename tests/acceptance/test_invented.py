"""Steps that the vendor has not written yet: applied, resumed, or refused by name, and never half done."""

from collections.abc import Iterator

import pytest
from packaging.version import Version

from schema_migrator.diagnosis.state import At
from support.postgres.databases import fresh
from support.postgres.engine import Engine
from support.postgres.rows import contents
from support.program.references import picture
from support.vendor.invented import Future, Invention, future, inventions
from support.vendor.kill_sweep import copy, differences

STEPS = list(inventions())
BEGUN = [(step, count) for step in STEPS for count in range(1, len(step.statements) + 1)]
PARTS = 2


def name(value: object) -> str | None:
    """Return the name of a step among a test's cases."""
    return value.name if isinstance(value, Invention) else None


@pytest.fixture(scope="module")
def coming(server: Engine) -> Iterator[Future]:
    """Give the sources of the invented releases, and the ways to their versions."""
    with fresh(server) as databases, future(databases) as made:
        yield made


@pytest.mark.parametrize("step", STEPS, ids=name)
def test_a_step_is_applied(coming: Future, step: Invention) -> None:
    """What it makes, rows included, is what psql makes of its files; `plan`, `status` and `verify` agree."""
    way = coming.way(step)
    store = coming.site(step, copy(coming.databases, way.origin))
    planned = store.plan()
    assert [str(each.step.version) for each in planned.steps] == [step.version]
    assert way.resumed(store.name) == []
    state = store.status().state
    assert isinstance(state, At)
    assert state.version == Version(step.version)
    assert store.plan().empty
    assert store.verify().equal


@pytest.mark.parametrize("step", [step for step in STEPS if step.for_todays_tool], ids=name)
def test_the_vendors_tool_makes_the_same(coming: Future, step: Invention) -> None:
    """The reference is right: the tool of the base release makes the same of a step that it takes."""
    way = coming.way(step)
    database = copy(coming.databases, way.origin)
    coming.by_vendor(step, database)
    assert differences(picture(coming.databases, database), way.done) == []
    with coming.databases.connect(database) as connection:
        assert contents(connection) == way.rows


@pytest.mark.parametrize(("step", "count"), BEGUN, ids=name)
def test_another_tool_has_begun_a_step(coming: Future, step: Invention, count: int) -> None:
    """Each statement is committed on its own, and nothing is recorded: ours resumes, or refuses and changes nothing."""
    way = coming.way(step)
    store = coming.site(step, copy(coming.databases, way.origin))
    store.run(*(statement.text for statement in step.statements[:count]))
    before = store.picture()
    found = way.resumed(store.name)
    if found:
        assert store.picture() == before, found
    assert found == []


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("step", STEPS, ids=name)
def test_ours_is_stopped(coming: Future, step: Invention, part: int) -> None:
    """Over the second half of the messages, where the step is: the next run makes it good."""
    way = coming.way(step)
    length = way.length()
    message = length - length * part // (2 * PARTS) - 3
    assert way.stop(message, after=bool(part % 2)).problem == ""

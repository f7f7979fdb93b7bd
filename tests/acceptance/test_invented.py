"""Steps that the vendor has not written yet: applied, resumed, or refused by name, and never half done."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from packaging.version import Version

from schema_migrator.diagnosis.state import At
from schema_migrator.errors import RewriteBlocked, StatementFailed, UnknownState
from schema_migrator.estimation import model
from schema_migrator.planning import plan
from support.postgres.databases import fresh
from support.postgres.engine import Engine
from support.postgres.rows import contents
from support.program.references import latest, picture, start_by_vendor
from support.selection import EVERYTHING
from support.vendor.invented import BASE, LEAST, Future, Invention, future, inventions, too_old
from support.vendor.kill_sweep import copy, differences

STEPS = list(inventions())
BEGUN = [(step, count) for step in STEPS for count in range(1, len(step.statements) + 1)]
PARTS = 2
STOPS = 3
"""At least, of each step; an odd stride meets both kinds."""
REFUSED = {"1.34.1-default-1.20": "(UPDATE nexus_endpoints SET version = version + 1) has run, which must not change"}
"""The steps that cannot be resumed, because a statement in the middle must not run twice, and what is said."""
MADE = ("1.33.0-default-1.20", "1.33.0-default-1.23", "1.33.0-visibility-1.20")
"""Steps that make tables, types and functions."""
CHAINS = [
    ("1.33.0", "default"),
    ("1.33.0", "visibility"),
    ("1.34.3", "default"),
    ("1.34.5", "visibility"),
    ("1.34.6", "default"),
]
"""Releases with several steps."""
FIRST_OF_NEWER = [step for step in STEPS if step.release in LEAST and step.version in ("1.15", "1.20")]
"""The first step of each release that an older PostgreSQL cannot run."""
UNSEEN = {("1.34.2-default-1.20", 1)}
"""A step that begins with such a statement: after it all is as before, and the vendor's tool repeats it too."""
TABLE = '"executions_visibility" cannot be rewritten online: '
ONLINE = {
    "1.33.0-visibility-1.15": "",
    "1.33.0-visibility-1.16": "",
    "1.33.0-visibility-1.18": TABLE + 'a step changes the column: "history_length"',
    "1.34.0-visibility-1.15": TABLE + 'a step changes the column: "keyword10"',
    "1.34.4-visibility-1.15": TABLE + "step 1.15 rewrites it in a way that needs its lock",
    "1.34.5-visibility-1.16": "",
}
"""The steps that rewrite a table, and what forbids that online; nothing where it is possible."""


def name(value: object) -> str | None:
    """Return the name of a step among a test's cases."""
    return value.name if isinstance(value, Invention) else None


def chain(release: str, store: str) -> list[Invention]:
    """Return all invented steps of a release's store."""
    return [step for step in STEPS if (step.release, step.store) == (release, store)]


@pytest.fixture(scope="module")
def coming(server: Engine) -> Iterator[Future]:
    """Give the sources of the invented releases, and the ways to their versions."""
    with fresh(server) as databases, future(databases) as made:
        yield made


@pytest.mark.parametrize("step", STEPS, ids=name)
def test_a_step_is_applied(coming: Future, monkeypatch: pytest.MonkeyPatch, step: Invention) -> None:
    """What it makes, rows included, is what psql makes of its files; `plan`, `status` and `verify` agree."""
    monkeypatch.setattr(model, "MATTERS_BYTES", 1)  # so that plan tries the statements out
    way = coming.way(step)
    store = coming.site(step, copy(coming.databases, way.origin))
    planned = store.plan()
    assert [str(each.step.version) for each in planned.steps] == [step.version]
    assert way.resumed(store.name) == []
    state = store.status().state
    assert isinstance(state, At)
    assert state.version == Version(step.version)
    assert store.plan().empty
    verdict = store.verify()
    assert verdict.equal
    assert verdict.difference.extra == ()


@pytest.mark.parametrize("step", FIRST_OF_NEWER, ids=name)
def test_an_older_server_is_left_alone(coming: Future, step: Invention) -> None:
    """Where it cannot run a release's statements in one transaction, the statement is named and nothing changes."""
    if not too_old(coming.databases, step):
        # There the same steps succeed, which test_a_step_is_applied shows; there is no refusal to look at.
        pytest.skip(f"{step.name} runs on this server: it is new enough")
    origin = start_by_vendor(coming.databases, step.store, (BASE, latest(BASE, step.store)), own=False)
    error = coming.site(step, origin).refused()
    assert isinstance(error, StatementFailed)
    assert f"{step.store}/v1." in str(error.detail)


@pytest.mark.parametrize(("release", "store"), CHAINS)
def test_all_steps_at_once(coming: Future, release: str, store: str) -> None:
    """In one run, from the last version of today: the same as by psql, step by step."""
    assert coming.whole(release, store).resumed() == []


@pytest.mark.parametrize(("release", "store"), CHAINS)
def test_installed_from_nothing(coming: Future, release: str, store: str) -> None:
    """An empty database gets the same structure as an upgrade."""
    last = coming.whole(release, store)
    where = coming.site(chain(release, store)[-1], coming.databases.create())
    verdict = where.migrate().verdict
    assert verdict is not None
    assert verdict.equal
    assert picture(coming.databases, where.name).schema == last.done.schema


@pytest.mark.parametrize("step", [step for step in STEPS if step.name in MADE], ids=name)
def test_what_a_superuser_makes_belongs_to_the_owner(coming: Future, step: Invention) -> None:
    """Tables, functions and types get the owner of the store's other tables."""
    server = coming.databases.engine
    role = {"SQL_USER": server.user, "SQL_PASSWORD": server.password or "none"}
    way = coming.way(step)
    assert replace(way, variables={**way.variables, **role}).resumed() == []


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
    if (step.name, count) in UNSEEN:
        state = store.status().state
        assert isinstance(state, At)
        assert str(state.version) == way.start
        return
    refusal = next((text for release, text in REFUSED.items() if step.name == release), "")
    if refusal:
        error = store.refused()
        assert isinstance(error, UnknownState)
        assert refusal in str(error)
    else:
        assert way.resumed(store.name) == []


@pytest.mark.parametrize("step", [step for step in STEPS if step.name in ONLINE], ids=name)
def test_a_table_is_rewritten_online_or_left_alone(coming: Future, step: Invention) -> None:
    """Where a rewrite online is asked for, the table is rewritten so, or the run names what forbids it."""
    way = coming.way(step)
    way = replace(way, variables={**way.variables, "SCHEMA_MIGRATOR_REWRITE": "online"})
    store = coming.site(step, copy(coming.databases, way.origin)).given(SCHEMA_MIGRATOR_REWRITE="online")
    if not ONLINE[step.name]:
        online = store.plan().online
        assert online is not None
        assert online.shape is not None
        assert way.resumed(store.name) == []
    else:
        error = store.refused()
        assert isinstance(error, RewriteBlocked)
        assert ONLINE[step.name] in str(error.detail)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("step", STEPS, ids=name)
def test_ours_is_stopped(coming: Future, step: Invention, part: int) -> None:
    """At some messages of the step: the next run makes it good."""
    way = coming.way(step)
    span = way.span()
    assert way.stop(span[len(span) * (2 * part + 1) // (2 * PARTS)], after=bool(part % 2)).problem == ""


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("step", [step for step in STEPS if step.in_parts], ids=name)
def test_ours_is_stopped_between_its_commits(
    coming: Future, monkeypatch: pytest.MonkeyPatch, step: Invention, part: int
) -> None:
    """The same with tables that count as large, so that a step is committed in parts if that is safe."""
    monkeypatch.setattr(plan, "SMALL_TABLE_BYTES", -1)
    way = coming.way(step)
    span = way.span()
    assert way.stop(span[len(span) * (2 * part + 1) // (2 * PARTS)], after=bool(part % 2)).problem == ""


@pytest.mark.matrix
@pytest.mark.timeout(7200)  # some hundred runs
@pytest.mark.parametrize(
    ("step", "large"), [(step, large) for step in STEPS for large in sorted({False, step.in_parts})], ids=name
)
def test_ours_is_stopped_anywhere(
    coming: Future,
    monkeypatch: pytest.MonkeyPatch,
    step: Invention,
    large: bool,  # noqa: FBT001 - a parameter
) -> None:
    """At every message of the step, or at some of them, before and after it: the next run makes it good."""
    if large:
        monkeypatch.setattr(plan, "SMALL_TABLE_BYTES", -1)
    way = coming.way(step)
    stops = [(message, after) for message in way.span() for after in (False, True)]
    stops = stops if EVERYTHING else stops[:: max(1, len(stops) // STOPS) | 1]
    wrong = [found for message, after in stops if (found := way.stop(message, after=after)).problem]
    assert wrong == []

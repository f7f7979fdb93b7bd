import pytest
from packaging.version import Version

from schema_migrator.diagnosis.state import Absent, Between, State, Unknown, Unrecorded
from schema_migrator.errors import UnknownState
from schema_migrator.planning import plan
from schema_migrator.planning.plan import PlanOptions
from schema_migrator.releases.source import UNVERSIONED, Store
from support.program.factories import at, overview, planned, release

ALL = [f"1.{minor}" for minor in range(10)]


@pytest.mark.parametrize(
    ("state", "target", "steps", "setup", "together"),
    [
        (Absent(), None, ALL, True, True),
        (Absent(), "1.0", ["1.0"], True, True),
        (at("0.0"), "1.1", ["1.0", "1.1"], False, True),
        (at("1.0"), "1.2", ["1.1", "1.2"], False, False),
        (at("1.8"), None, ["1.9"], False, False),
        (at("1.9"), None, [], False, False),
        (at("1.9"), "1.3", [], False, False),
        (at("1.12"), None, [], False, False),
    ],
)
def test_steps_from_a_state_to_a_target(
    state: State, target: str | None, steps: list[str], *, setup: bool, together: bool
) -> None:
    """All steps between, none downwards; in one transaction only where nobody uses the store yet."""
    found = planned(state, target)
    assert [str(step.step.version) for step in found.steps] == steps
    assert (found.setup, found.together) == (setup, together)
    assert found.empty == (not steps)


def test_each_step_follows_the_one_before() -> None:
    """A step knows the version that it starts from, which the version row is compared with."""
    found = planned(at("1.6"))
    assert [(str(step.previous), str(step.step.version)) for step in found.steps] == [
        ("1.6", "1.7"),
        ("1.7", "1.8"),
        ("1.8", "1.9"),
    ]
    assert str(planned(Absent()).steps[0].previous) == "0.0"


@pytest.mark.parametrize(
    ("version", "target", "ahead"), [("1.9", "1.8", True), ("1.9", "1.9", False), ("1.8", "1.9", False)]
)
def test_knows_a_store_that_is_ahead(version: str, target: str, *, ahead: bool) -> None:
    """A store above its target has nothing to do, and that can be told from one at its target."""
    found = planned(at(version), target)
    assert found.ahead == ahead
    assert str(found.version) == version


def test_keeps_to_what_servers_work_with() -> None:
    """A target below the recorded least compatible version is refused, any other one is not."""
    assert planned(at("1.9", "1.5"), "1.5").empty
    with pytest.raises(UnknownState) as caught:
        planned(at("1.9", "1.5"), "1.4")
    assert str(caught.value) == (
        'visibility: database "temporal_visibility" is at 1.9, which works with servers from 1.5 on, '
        "but the target is 1.4; set TEMPORAL_VERSION to the release that runs, or a newer one"
    )


def test_a_set_up_alone_takes_any_version() -> None:
    """The target 0.0, which no server works with, is never below what is recorded."""
    source = release().source(Store.VISIBILITY)
    found = plan.build(source, overview(at("1.9", "1.5")), UNVERSIONED, database="temporal_visibility")
    assert (found.steps, found.setup, found.ahead) == ((), False, True)


def test_refuses_an_unknown_state() -> None:
    """The reason and the hint are those of the state."""
    with pytest.raises(UnknownState) as caught:
        planned(Unknown(reason="it is strange", hint="look at it"))
    assert str(caught.value) == 'visibility: database "temporal_visibility": it is strange; look at it'
    assert caught.value.exit_code == 21


def test_resumes_a_step_that_was_begun() -> None:
    """Of the step that was begun only the remaining statements run, of the later ones all."""
    steps = release().source(Store.VISIBILITY).steps
    total = len(steps[2].statements)
    begun = Between(version=Version("1.1"), step=Version("1.2"), total=total, remaining=(total - 2, total - 1))
    found = planned(begun, "1.3")
    assert [len(step.statements) for step in found.steps] == [2, len(steps[3].statements)]
    assert found.steps[0].statements == steps[2].statements[-2:]
    assert begun.done == total - 2
    assert not found.together


def unrecorded(*, confirmed: bool, recorded: Version | None = None) -> Unrecorded:
    """Return the state of a database whose row was lost."""
    return Unrecorded(version=Version("1.8"), recorded=recorded, confirmed=confirmed)


@pytest.mark.parametrize(("confirmed", "adopt"), [(True, False), (False, True)])
def test_adopts_a_version(*, confirmed: bool, adopt: bool) -> None:
    """A version that the tables match is recorded first, where a row confirms it or a person says so."""
    found = planned(unrecorded(confirmed=confirmed), options=PlanOptions(adopt=adopt))
    assert found.adopt is not None
    assert str(found.adopt.version) == "1.8"
    assert [str(step.step.version) for step in found.steps] == ["1.9"]
    assert (found.setup, found.empty, found.recorded) == (False, False, None)


@pytest.mark.parametrize(("recorded", "said"), [(None, "no version"), (Version("1.3"), "1.3")])
def test_does_not_adopt_unasked(recorded: Version | None, said: str) -> None:
    """Without either it is refused, and the flag is named."""
    with pytest.raises(UnknownState) as caught:
        planned(unrecorded(confirmed=False, recorded=recorded))
    assert str(caught.value) == (
        'visibility: database "temporal_visibility" has the tables of 1.8, '
        f"but {said} is recorded for it; "
        "if 1.8 is right, record it: schema-migrator migrate --adopt"
    )

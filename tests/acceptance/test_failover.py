"""A standby takes over while a run is at work: the next run carries on there, and no acknowledged write is lost."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import pytest

from support.postgres.failover import ASYNCHRONOUS, MODES
from support.postgres.fault_proxy import ROUND_TRIPS, Place
from support.visibility.failovers import Trial, fail_over, fail_over_installing, installation, prepared
from support.visibility.fault_sweep import PHASES, Scene, survey

CONFIRMS = "pg_logical_emit_message"
"""What a commit of the program's is sent with."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Start the server of which each trial's pair is a copy."""
    with prepared() as made:
        yield made


@pytest.fixture(scope="module")
def places(scene: Scene) -> Mapping[str, Sequence[Place]]:
    """Return the places of a run by phase."""
    return survey(scene)[ROUND_TRIPS]


@pytest.fixture(scope="module")
def commit(scene: Scene) -> int:
    """Return the number of the message that commits an installation."""
    confirmed = (number for number, message in enumerate(installation(scene), 1) if CONFIRMS in "".join(message.sent))
    (number,) = confirmed
    return number


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "goes on"])
@pytest.mark.parametrize(("phase", "mode"), list(product(PHASES, (ASYNCHRONOUS, "on"))))
def test_another_server_takes_over(
    scene: Scene, places: Mapping[str, Sequence[Place]], phase: str, mode: str, *, stopped: bool
) -> None:
    """In each phase: the run says what happened or has done all, and the next one ends on the new primary."""
    there = places[phase]
    for place in (there[len(there) // 2], there[0]):
        outcome = fail_over(scene, Trial(mode=mode, stopped=stopped, place=place))
        assert outcome.problem == ""
        if outcome.hit:
            return
    pytest.fail("no message of the run was disturbed")


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "goes on"])
@pytest.mark.parametrize("mode", [ASYNCHRONOUS, "on"])
@pytest.mark.parametrize(("distance", "after"), [(-9, False), (-4, False), (0, False), (0, True), (3, False)])
def test_another_server_takes_over_while_a_store_is_installed(
    scene: Scene, commit: int, mode: str, distance: int, *, after: bool, stopped: bool
) -> None:
    """Before the installation, in it, around its commit, and in the proof: there is all of it or nothing."""
    place = Place(connection=0, message=commit + distance)
    outcome = fail_over_installing(scene, Trial(mode=mode, stopped=stopped, place=place, after=after))
    assert (outcome.problem, outcome.hit) == ("", True)


@pytest.mark.parametrize("after", [False, True], ids=["before", "as it is sent"])
@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "goes on"])
@pytest.mark.parametrize("mode", MODES)
def test_another_server_takes_over_at_the_commit(
    scene: Scene, places: Mapping[str, Sequence[Place]], mode: str, *, stopped: bool, after: bool
) -> None:
    """The message that commits the cutover, before it is sent, and as the server gets it."""
    outcome = fail_over(scene, Trial(mode=mode, stopped=stopped, place=places["cutover"][-1], after=after))
    assert (outcome.problem, outcome.hit) == ("", True)

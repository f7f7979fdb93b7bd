"""Turns for the cutover: one visibility store at a time, and nobody waits for longer than for that."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from schema_migrator.concurrency import Interrupt, run_parallel
from schema_migrator.errors import Stopped
from schema_migrator.online import cutover_turns
from schema_migrator.releases.source import Store
from support.waiting import PATIENCE

TABLE = "executions_visibility"
SIGTERM = 15


def work(store: Store, interrupt: Interrupt | None = None) -> Any:  # noqa: ANN401 - as much of a RunContext as is read
    """Return the context of a run on a store."""
    run = SimpleNamespace(heartbeat=0.001)
    return SimpleNamespace(
        store=SimpleNamespace(store=store),
        settings=SimpleNamespace(run=run),
        interrupt=interrupt or Interrupt(),
    )


@pytest.fixture(autouse=True)
def every_turn_is_free_afterwards() -> Iterator[None]:
    """Assert that no test keeps a turn: those of the next one would wait for it."""
    yield
    assert not any(turn.locked() for turn in cutover_turns._TURNS.values())


def test_visibility_stores_take_turns() -> None:
    """However many threads there are, one is in the block, and all but the first know that they waited."""
    inside: list[int] = []
    most: list[int] = []
    waited: list[bool] = []
    all_here = threading.Barrier(4)

    def cut_over(number: int) -> None:
        store = (Store.VISIBILITY, Store.SECONDARY_VISIBILITY)[number % 2]
        all_here.wait(PATIENCE)
        with cutover_turns.taken(work(store), TABLE) as had_to_wait:
            inside.append(number)
            threading.Event().wait(0.05)
            most.append(len(inside))
            inside.remove(number)
            waited.append(had_to_wait)

    with capture_logs() as logs:
        run_parallel(tuple(range(4)), Interrupt(), cut_over)
    assert (most, waited) == ([1, 1, 1, 1], [False, True, True, True])
    assert {(log["event"], log["table"]) for log in logs} == {("online.waiting_for_cutover", TABLE)}


def test_the_default_store_waits_for_nobody() -> None:
    """It is no substitute for a visibility store, nor the other way round."""
    with (
        cutover_turns.taken(work(Store.VISIBILITY), TABLE),
        cutover_turns.taken(work(Store.DEFAULT), "executions") as w,
    ):
        assert not w


def test_a_failed_cutover_ends_its_turn() -> None:
    """The other store goes on: it is the one that answers meanwhile."""
    with pytest.raises(ZeroDivisionError), cutover_turns.taken(work(Store.VISIBILITY), TABLE):
        raise ZeroDivisionError
    with cutover_turns.taken(work(Store.SECONDARY_VISIBILITY), TABLE) as waited:
        assert not waited


def test_a_signal_ends_the_wait() -> None:
    """Whoever waits for a turn stops as soon as the run is to stop, and has taken none."""
    interrupt, ended = Interrupt(), threading.Event()
    found: list[BaseException] = []

    def wait() -> None:
        try:
            with cutover_turns.taken(work(Store.SECONDARY_VISIBILITY, interrupt), TABLE):
                pass
        except Stopped as stopped:
            found.append(stopped)
        ended.set()

    with cutover_turns.taken(work(Store.VISIBILITY), TABLE):
        threading.Thread(target=wait, daemon=True).start()
        assert not ended.wait(0.3)
        interrupt.set(SIGTERM)
        assert ended.wait(PATIENCE)
    assert [str(stopped) for stopped in found] == [str(Stopped(SIGTERM))]

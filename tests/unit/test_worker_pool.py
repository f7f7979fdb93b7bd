"""How many workers of a pool work, as the throttle allows it; the connections are stand-ins."""

import time
from types import SimpleNamespace

from schema_migrator.concurrency import Interrupt
from schema_migrator.online.tuning import Tuner
from schema_migrator.online.worker_pool import WorkerPool


def pool(allowed: int, workers: int = 3) -> WorkerPool:
    """Return a pool of so many workers, of which some may work."""
    work = SimpleNamespace(
        interrupt=Interrupt(), store=None, settings=SimpleNamespace(run=SimpleNamespace(heartbeat=60))
    )
    tuner = Tuner(most=workers, fixed=True)
    throttle = SimpleNamespace(keep=lambda _: None, allowed=allowed, tuner=tuner)
    return WorkerPool(work=work, conns=tuple(range(workers)), throttle=throttle)  # type: ignore[arg-type]  # share() only passes connections on


def test_only_those_that_are_allowed_work() -> None:
    """One does everything, and the others do not wait for ever when nothing is left."""
    made, used = pool(1), list[object]()
    made.share(range(20), lambda conn, _: used.append(conn))
    assert used == [0] * 20


def test_more_work_as_soon_as_they_are_allowed() -> None:
    """In the middle of a stage."""
    made, used = pool(1), list[object]()

    def job(conn: object, item: int) -> None:
        used.append(conn)
        if item == 5:
            made.throttle.allowed = 3
        time.sleep(0.05)

    made.share(range(40), job)
    assert used[:6] == [0] * 6
    assert set(used) == {0, 1, 2}


def test_the_next_stage_begins_with_all_that_are_allowed() -> None:
    """What ended one stage does not end the next."""
    made, used = pool(3), list[object]()

    def job(conn: object, _: int) -> None:
        used.append(conn)
        time.sleep(0.01)

    for _ in range(2):
        made.share(range(30), job)
    assert len(used) == 60
    assert set(used) == {0, 1, 2}

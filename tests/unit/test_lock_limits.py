"""Which steps would lock their tables for too long, and which transactions would block them."""

from collections.abc import Mapping

import pytest

from schema_migrator.estimation import extrapolation
from schema_migrator.estimation.model import BlockingTransaction, Forecast, StepEstimate
from schema_migrator.planning.plan import PlannedStep
from support.program.tiny_plans import TABLE, V1, V2, V3, about, locks, plan_of, working


def holder(mode: str, pid: int | None = 7, seconds: float | None = 5.0, name: str = TABLE) -> BlockingTransaction:
    """Return a transaction with a lock on a table."""
    return BlockingTransaction(table=name, mode=mode, pid=pid, who="app", seconds=seconds)


@pytest.mark.parametrize(
    ("lock", "holder", "blocks"),
    [
        ("ACCESS EXCLUSIVE", holder("AccessShareLock"), True),
        ("ACCESS EXCLUSIVE", holder("AccessShareLock", name="items"), False),
        ("SHARE", holder("AccessShareLock"), False),
        ("SHARE", holder("RowShareLock"), False),
        ("SHARE", holder("ShareLock"), False),
        ("SHARE", holder("RowExclusiveLock"), True),
        ("SHARE", holder("RowExclusiveLock", seconds=1.0), True),
        ("SHARE", holder("RowExclusiveLock", seconds=0.9), False),
        ("SHARE", holder("RowExclusiveLock", seconds=None), True),
        ("SHARE", holder("RowExclusiveLock", pid=None, seconds=0.1), True),
        ("SHARE", holder("ShareLock", pid=None), False),
    ],
)
def test_transactions_that_block(lock: str, holder: BlockingTransaction, *, blocks: bool) -> None:
    """A transaction blocks with a conflicting lock if it is old, of unknown age, or only prepared."""
    made = plan_of(working("1.1", locks=locks(TABLE, mode=lock)))
    assert extrapolation.blocked_by(made, Forecast(holders=(holder,))) == ((holder,) if blocks else ())


def taking(likely: float) -> StepEstimate:
    """Return the estimate of a step that holds its locks for half of its time."""
    return StepEstimate(seconds=about(2 * likely), locked=about(likely), disk=0)


REFUSALS: Mapping[str, tuple[PlannedStep, Forecast, float, str]] = {
    "fits": (working("1.1"), Forecast(steps={V1: taking(2.0)}), 4.0, ""),
    "too long": (
        working("1.1"),
        Forecast(steps={V1: taking(2.0)}),
        3.5,
        "step 1.1 would lock orders for about 2 s, at worst 4 s, the limit is 3.5 s",
    ),
    "two tables": (
        working("1.1", on=(TABLE, "items")),
        Forecast(steps={V1: taking(9.0)}),
        1.0,
        "step 1.1 would lock orders and items for about 9 s, at worst 18 s, the limit is 1 s",
    ),
    "unmeasured": (
        working("1.1", locks=()),
        Forecast(unmeasured={V1: "no time"}),
        30.0,
        "it cannot be estimated how long step 1.1 would lock its tables (no time), the limit is 30 s",
    ),
    "without an estimate": (working("1.1"), Forecast(), 0.0, ""),
    "online": (working("1.1", online=True), Forecast(unmeasured={V1: "no time"}, steps={V1: taking(9.0)}), 1.0, ""),
}


@pytest.mark.parametrize(("planned", "found", "limit", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_a_limit_refuses(planned: PlannedStep, found: Forecast, limit: float, expected: str) -> None:
    """A step may not lock its tables for longer at worst, nor for an unknown time; an online one may."""
    assert extrapolation.refusal(plan_of(planned), found, limit) == expected


def test_a_limit_is_for_every_step() -> None:
    """Steps after an online one and after one that fits are checked too."""
    made = plan_of(working("1.1", online=True), working("1.2"), working("1.3"))
    found = Forecast(steps={V2: taking(1.0), V3: taking(3.0)})
    assert extrapolation.refusal(made, found, 5.0).startswith("step 1.3 would lock orders for about 3 s")

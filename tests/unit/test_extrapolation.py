"""What steps cost and block, extrapolated from trials that are made by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from packaging.version import Version

from schema_migrator.catalog.snapshot import Key
from schema_migrator.estimation import extrapolation
from schema_migrator.estimation.model import (
    BRIEF,
    MATTERS_BYTES,
    NOTHING,
    Cost,
    Forecast,
    StatementGroup,
    StepEstimate,
    TableSize,
    Trial,
)
from support.program.tiny_plans import (
    INDEXED,
    TABLE,
    V1,
    V2,
    V3,
    V4,
    about,
    constraint,
    index,
    locks,
    plan_of,
    proof,
    table,
    working,
)

WIDEN = "ALTER TABLE orders ALTER COLUMN id TYPE bigint"
CONCURRENT = "CREATE INDEX CONCURRENTLY by_day ON orders (day)"
BRIEF_STEP = StepEstimate(seconds=BRIEF, locked=BRIEF, disk=0)
LARGE = MATTERS_BYTES + 1


def size(name: str, heap: int, rows: int | None = None) -> TableSize:
    """Return the size of a table that has no more than rows."""
    return TableSize(table=name, heap=heap, toast=0, indexes=0, rows=rows)


Costs = Mapping[Version, Sequence[tuple[float, int]]]
"""The seconds and bytes of each statement of each step."""


def trial(rows: Mapping[str, int], costs: Costs, written: int = 0) -> Trial:
    """Return a trial on so many rows."""
    priced = {
        version: tuple(Cost(seconds=seconds, made=made) for seconds, made in each) for version, each in costs.items()
    }
    return Trial(rows=rows, costs=priced, written=written)


@pytest.mark.parametrize(
    ("by_tool", "more", "expected"),
    [
        (False, {"concurrently": True}, [((0,), False), ((1, 2), True), ((3,), False)]),
        (False, {"concurrently": False}, [((0, 1, 2, 3), False)]),
        (True, {"concurrently": False}, [((0,), False), ((1,), True), ((2,), True), ((3,), False)]),
        (True, {"resumed": True}, [((0, 1, 2, 3), False)]),
        (False, {"online": True}, []),
        (True, {"online": True}, []),
    ],
)
def test_statements_run_in_groups(
    by_tool: bool,  # noqa: FBT001
    more: dict[str, Any],
    expected: list[tuple[tuple[int, ...], bool]],
) -> None:
    """Statements share a transaction unless they run concurrently, or one by one with the vendor's tool."""
    planned = working("1.1", WIDEN, CONCURRENT, CONCURRENT, WIDEN, **more)
    groups = extrapolation.parts(plan_of(planned, by_tool=by_tool), planned)
    assert groups == tuple(StatementGroup(places=places, alone=alone) for places, alone in expected)


WIDE, NARROW = table("id bigint"), table("id int")
ID = Key("column", TABLE, "id")
STEPS: Mapping[str, tuple[dict[Key, str], dict[Key, str], tuple[str, ...], tuple[str, ...], set[str]]] = {
    "new index": ({}, index("by_day", "day"), (), (TABLE,), {TABLE}),
    "new constraint": ({}, constraint("paid", "CHECK (paid)"), (), (TABLE,), {TABLE}),
    "rewrite": ({}, {}, (TABLE,), (TABLE,), {TABLE}),
    "changed column": ({ID: NARROW[ID]}, {ID: WIDE[ID]}, (), (TABLE,), {TABLE}),
    "new column": ({}, {ID: WIDE[ID]}, (), (TABLE,), set()),
    "dropped column": ({ID: WIDE[ID]}, {}, (), (TABLE,), set()),
    "column as before": ({ID: WIDE[ID]}, {ID: WIDE[ID]}, (), (TABLE,), set()),
    "new trigger": ({}, {Key("trigger", TABLE, "log"): ""}, (), (TABLE,), set()),
    "changed order": ({Key("order", "", TABLE): "a, b"}, {Key("order", "", TABLE): "b"}, (), (TABLE,), set()),
    "new table": ({}, index("by_day", "day"), (TABLE,), ("items",), set()),
    "several": ({}, index("by_day", "day", "items"), (TABLE,), (TABLE, "items", "users"), {TABLE, "items"}),
}


@pytest.mark.parametrize(("start", "end", "rewrites", "locked", "expected"), STEPS.values(), ids=STEPS)
def test_tables_that_a_step_works_on(
    start: dict[Key, str],
    end: dict[Key, str],
    rewrites: tuple[str, ...],
    locked: tuple[str, ...],
    expected: set[str],
) -> None:
    """A step works on the rows of existing tables that it rewrites, indexes, checks or gives another column."""
    planned = working("1.1", rewrites=rewrites, proof=proof(start, end), locks=locks(*locked))
    assert extrapolation.worked_on(planned) == expected


def test_a_step_without_a_proof_works_on_unknown_tables() -> None:
    """Without a rehearsal no table is named."""
    assert extrapolation.worked_on(working("1.1", proof=None, rewrites=(TABLE,))) == frozenset()


def test_large_tables_are_copied() -> None:
    """A table is worth a trial if a step works on it and its rows take more than a megabyte."""
    sizes = size(TABLE, LARGE), size("items", MATTERS_BYTES), size("users", LARGE), size("bills", LARGE)
    made = plan_of(working("1.1", on=(TABLE, "items")), working("1.2", on=("users",)))
    assert extrapolation.tables_to_copy(made, sizes) == {TABLE, "users"}


def test_steps_on_large_or_unknown_tables_are_unmeasured() -> None:
    """Without trials, the reason is kept for each step that could take long; all others are brief."""
    found = Forecast(sizes=(size(TABLE, LARGE), size("items", 1)), spent=1.5)
    steps = working("1.3", on=("items",)), working("1.2", proof=None), working("1.1"), working("1.4", on=("items",))
    done = extrapolation.without_trials(plan_of(*steps), found, "no time")
    assert done == replace(
        found, unmeasured={V1: "no time", V2: "no time"}, steps={V3: BRIEF_STEP, V4: BRIEF_STEP}, online=None
    )
    assert [*done.steps] == [V3, V4]


def test_without_a_reason_all_steps_are_brief() -> None:
    """Where nothing is worth a trial, no step is unmeasured, not even one without a proof."""
    found = Forecast(sizes=(size(TABLE, LARGE),))
    done = extrapolation.without_trials(plan_of(working("1.1"), working("1.2", proof=None)), found, "")
    assert done == replace(found, steps={V1: BRIEF_STEP, V2: BRIEF_STEP})


def test_partitioned_tables_cannot_be_measured() -> None:
    """The first partitioned table of a step is named, unless another reason is known already."""
    found = Forecast(sizes=(size(TABLE, LARGE),), partitioned=frozenset({"users", "items"}))
    steps = working("1.1", on=("users", "items")), working("1.2", on=(TABLE, "items")), working("1.3", on=("bills",))
    done = extrapolation.without_trials(plan_of(*steps), found, "no time")
    assert done.unmeasured == {V1: "items is partitioned", V2: "no time"}
    assert done.steps == {V3: BRIEF_STEP}


@pytest.mark.parametrize(
    ("steps", "partitioned", "online", "in_place"),
    [
        ((), (), None, {V3}),
        (("1.1",), (), BRIEF_STEP, {V3}),
        (("1.1", "1.2"), (), BRIEF_STEP, {V3}),
        (("1.1", "1.2"), (TABLE,), None, {V3}),
        (("1.1",), ("items",), BRIEF_STEP, set()),
    ],
)
def test_an_online_rewrite_has_one_estimate(
    steps: tuple[str, ...], partitioned: tuple[str, ...], online: StepEstimate | None, in_place: set[Version]
) -> None:
    """It is brief as a whole where its rows are few, and has none if one of its steps is unmeasured."""
    apart = [working(version, online=True) for version in steps]
    found = Forecast(partitioned=frozenset(partitioned))
    done = extrapolation.without_trials(plan_of(*apart, working("1.3", on=("items",))), found, "")
    assert (done.online, done.steps) == (online, dict.fromkeys(in_place, BRIEF_STEP))


def test_trials_become_a_forecast() -> None:
    """Measured steps, the online rewrite, the rows and what measuring cost are in it; other steps are brief."""
    made = plan_of(
        working("1.1", WIDEN, INDEXED), working("1.2", on=("items",)), working("1.3", online=True), working("1.4")
    )
    costs: Costs = {V1: [(0.25, 512), (0.5, 512)], V2: [(9, 9)], V3: [(1, 4096)], V4: [(0, 0)]}
    twice: Costs = {V1: [(0.5, 1024), (1, 1024)], V2: [(9, 9)], V3: [(2, 8192)], V4: [(0, 0)]}
    trials = tuple(
        trial({TABLE: count}, each, written=count) for count, each in ((20, costs), (1024, costs), (2048, twice))
    )
    found = Forecast(sizes=(size(TABLE, LARGE, rows=9), size("items", 1, rows=7)))
    rows = {TABLE: 10240}
    done = extrapolation.with_trials(made, found, trials, rows, spent=1.5, left_out=("own",))
    assert done == Forecast(
        sizes=(size(TABLE, LARGE, rows=10240), size("items", 1, rows=7)),
        steps={
            V1: StepEstimate(seconds=about(7.5), locked=about(7.5), disk=10240),
            V2: BRIEF_STEP,
            V4: StepEstimate(seconds=about(0), locked=about(0), disk=0),
        },
        online=StepEstimate(seconds=about(10), locked=BRIEF, disk=40960),
        sampled={TABLE: 2048},
        spent=1.5,
        written=20 + 1024 + 2048,
        left_out=("own",),
    )


LINES: Mapping[str, tuple[tuple[int, ...], tuple[float, ...], int, float]] = {
    "one trial": ((1024,), (0.5,), 4096, 2.0),
    "two trials": ((1024, 2048), (0.25, 0.5), 10240, 2.5),
    "a constant share": ((1024, 2048), (1.0, 1.25), 4096, 1.75),
    "the last two of three": ((512, 1024, 2048), (9.0, 0.25, 0.5), 10240, 2.5),
    "every row tried": ((1024, 2048), (0.25, 0.5), 2048, 0.5),
    "more rows than now": ((1024, 2048), (0.25, 0.5), 1024, 0.5),
    "one row more": ((1, 2), (0.25, 0.5), 3, 0.75),
    "faster with more rows": ((1024, 2048), (1.0, 0.5), 10240, 0.5),
    "twice the same rows": ((1024, 1024), (0.25, 0.5), 2048, 1.0),
    "no rows": ((0,), (0.5,), 0, 0.5),
}


@pytest.mark.parametrize(("counts", "seconds", "whole", "expected"), LINES.values(), ids=LINES)
def test_times_grow_along_a_line(
    counts: tuple[int, ...], seconds: tuple[float, ...], whole: int, expected: float
) -> None:
    """The line through the last two trials, or from zero with a single one, ends at the live table's rows."""
    planned = working("1.1")
    trials = [trial({TABLE: count}, {V1: [(cost, 0)]}) for count, cost in zip(counts, seconds, strict=True)]
    found = extrapolation.estimated(plan_of(planned), planned, tuple(trials), {TABLE: whole})
    assert found == StepEstimate(seconds=about(expected), locked=about(expected), disk=0)


def test_bytes_grow_along_a_line() -> None:
    """The files of all statements count, rounded to whole bytes."""
    planned = working("1.1", WIDEN, INDEXED)
    trials = trial({TABLE: 3}, {V1: [(0, 1), (0, 3)]}), trial({TABLE: 6}, {V1: [(0, 4), (0, 5)]})
    assert extrapolation.estimated(plan_of(planned), planned, trials, {TABLE: 7}).disk == 11


def test_locks_are_held_for_the_longest_transaction() -> None:
    """What is built concurrently takes twice its time and holds no lock; the longest other group is the lock's."""
    planned = working("1.1", WIDEN, CONCURRENT, INDEXED, WIDEN, concurrently=True)
    trials = (trial({TABLE: 1024}, {V1: [(1, 0), (8, 0), (2, 0), (3, 0)]}),)
    found = extrapolation.estimated(plan_of(planned), planned, trials, {TABLE: 2048})
    assert found == StepEstimate(seconds=about(2 * (1 + 16 + 5)), locked=about(10), disk=0)


def test_a_step_that_only_builds_concurrently_holds_no_lock() -> None:
    """There is nothing that locks, so the lock takes no time."""
    planned = working("1.1", CONCURRENT, concurrently=True)
    found = extrapolation.estimated(plan_of(planned), planned, (trial({TABLE: 1}, {V1: [(1, 0)]}),), {TABLE: 1})
    assert found == StepEstimate(seconds=about(2), locked=NOTHING, disk=0)


def test_the_largest_copied_table_counts() -> None:
    """Of the tables that a step works on, the copied one with the most live rows gives the scale."""
    planned = working("1.1", on=(TABLE, "items", "zones"))
    rows = {TABLE: 2048, "items": 4096, "users": 8192}
    trials = (trial({TABLE: 1024, "items": 1024, "users": 1024}, {V1: [(1, 0)]}),)
    assert extrapolation.estimated(plan_of(planned), planned, trials, rows).seconds == about(4)


def test_no_online_step_has_no_online_estimate() -> None:
    """Without such a step there is nothing to estimate."""
    assert extrapolation.online_estimate([], (), {}) is None


def test_an_online_rewrite_takes_its_slowest_statement_and_all_indexes() -> None:
    """One rewrite replaces all of them; bytes are those of the same statements, and the lock is the cutover's."""
    steps = working("1.1", WIDEN, INDEXED), working("1.2", INDEXED.lower(), WIDEN), working("1.3", WIDEN)
    costs = {V1: [(4, 9), (1, 1)], V2: [(2, 2), (8, 3)], V3: [(5, 7)]}
    found = extrapolation.online_estimate(steps, (trial({TABLE: 1024}, costs),), {TABLE: 2048})
    assert found == StepEstimate(seconds=about(2 * (8 + 1 + 2)), locked=BRIEF, disk=2 * (3 + 1 + 2))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_last_online_step_gives_the_scale(place: int) -> None:
    """The rows of the last step's table count, of how many steps whatsoever."""
    steps = [working("1.1", on=("items",)), working("1.2", on=("items",)), working("1.3")][place:]
    costs = {V1: [(1.0, 0)], V2: [(1.0, 0)], V3: [(1.0, 0)]}
    found = extrapolation.online_estimate(
        steps, (trial({TABLE: 1024, "items": 1024}, costs),), {TABLE: 8192, "items": 1024}
    )
    assert found is not None
    assert found.seconds == about(8 * len(steps))

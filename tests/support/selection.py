"""Which cases `make test` runs and which it leaves to `make test-matrix`, so that it ends within eight minutes.

Each test function has a few seconds of `make test`. As many of its cases stay as fit into them, evenly spread; a
function of which not one case fits is left to the matrix. The proofs in `CORE` stay, whatever they take. No case is
left out of both.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

TESTS = Path(__file__).resolve().parents[1]
DURATIONS = TESTS / "data" / "durations.json"
"""Seconds of a case, by file and function; `make durations` writes it. A function that is not in it stays whole."""

SECONDS = 2.0
"""For each function, of one core of the machine that measured."""

APART = ("matrix", "chart", "image", "e2e", "temporal")
"""Markers of tests that `make test` never runs."""

EVERYTHING = bool(os.environ.get("SCHEMA_MIGRATOR_TEST_EVERYTHING"))
"""Whether the longest tests of the matrix try all that they can, which takes the better part of a day."""

EXPECTED_SECONDS = pytest.StashKey[float]()
"""What the collected tests of `make test` should take together, on one core."""

Case = TypeVar("Case")


def spread(cases: Iterable[Case], every: int) -> Sequence[Case]:
    """Return every so many of a test's cases for the matrix, or all of them if everything is to be tried."""
    return [*cases][:: 1 if EVERYTHING else every]


CORE: Mapping[str, int] = {
    # Another tool stopped half-way, ours cut and killed: what the whole program is for.
    "acceptance/test_sweep.py::test_what_the_vendor_leaves": 6,
    "acceptance/test_cut.py::test_a_cut_run_is_made_good_by_the_next": 3,
    "acceptance/test_own_sweep.py::test_ours_is_stopped": 2,
    "acceptance/test_invented.py::test_ours_is_stopped": 3,
    "acceptance/test_concurrent.py::test_a_killed_installation_leaves_nothing_in_the_way": 1,
    "integration/test_found.py::test_what_is_found_and_done": 1,
    # The same schema as the vendor's tool makes.
    "acceptance/test_equality.py::test_from_a_version_of_the_vendors_making": 2,
    "acceptance/test_equality.py::test_from_an_older_release": 1,
    # No row is lost in an online rewrite.
    "acceptance/test_online_killed.py::test_disturbed_and_run_again": 19,
    "acceptance/test_online_killed.py::test_a_connection_is_refused": 1,
    "acceptance/test_online_killed.py::test_between_two_batches": 1,
    "acceptance/test_failover.py::test_another_server_takes_over": 2,
    "acceptance/test_failover.py::test_another_server_takes_over_at_the_commit": 1,
    "acceptance/test_schedules.py::test_the_copy_is_what_the_table_is": 2,
    "acceptance/test_schedules.py::test_a_planted_fault_is_found": 4,
    "integration/test_online.py::test_a_killed_run_is_carried_on": 1,
    "integration/test_online.py::test_a_copy_that_is_not_the_table_never_takes_its_place": 1,
    "integration/test_online.py::test_a_table_that_changes_meanwhile_is_left_as_it_is": 1,
    "integration/test_online.py::test_all_that_the_table_wears_goes_along": 1,
    "integration/test_damage.py::test_two_rows_of_one_key": 1,
    "integration/test_hold.py::test_another_migrate_asks_for_it": 1,
    "integration/test_hold.py::test_a_replayed_row_that": 1,
    # No right is given away.
    "integration/test_hostile.py::test_nothing_planted_is_run": 1,
    "integration/test_hostile.py::test_the_owners_code_does_not_run_as_a_superuser": 1,
    # No secret is printed.
    "unit/test_no_secret.py::test_no_part_of_a_password_is_shown": 1,
    # Nobody waits.
    "acceptance/test_locks.py::test_writers_do_not_queue_behind_us": 1,
    "acceptance/test_cost.py::test_round_trips": 1,
    "integration/test_patience.py::test_readers_do_not_wait_for_a_standby": 1,
    "integration/test_budgets.py::test_an_archive_that_fails_is_named_before_anything_begins": 1,
    "integration/test_replicas.py::test_a_late_standby_is_named_before_anything_begins": 1,
    # A run that is told to end ends.
    "integration/test_frozen.py::test_under_the_cutovers_lock": 1,
    "integration/test_signals.py::test_in_a_statement_of_a_step": 1,
    "integration/test_signals.py::test_in_an_online_rewrite": 2,
}
"""How many cases stay, by file and function."""


def leave_to_the_matrix(items: Iterable[pytest.Item]) -> float:
    """Mark what `make test` leaves out, beside what is marked already; return the seconds that the rest should take."""
    durations = measured()
    expected = 0.0
    for function, cases in by_function(items).items():
        kept = set(chosen(limit(function, durations), cases))
        expected += len(kept) * durations.get(function, 0.0)
        for case in set(cases) - kept:
            case.add_marker("matrix")
    return expected


def measured() -> Mapping[str, float]:
    """Return the seconds of a case of each function."""
    durations: Mapping[str, float] = json.loads(DURATIONS.read_text(encoding="utf-8"))
    return durations


def by_function(items: Iterable[pytest.Item]) -> dict[str, list[pytest.Function]]:
    """Return the cases of each function, without those that have a target of their own."""
    found: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and not any(map(item.get_closest_marker, APART)):
            found.setdefault(f"{item.path.relative_to(TESTS).as_posix()}::{item.originalname}", []).append(item)
    return found


def limit(function: str, durations: Mapping[str, float]) -> int | None:
    """Return how many cases of a function stay, or nothing where all of them do."""
    if function in CORE:
        return CORE[function]
    if function in durations:
        return int(SECONDS / durations[function])
    return None


def chosen(limit: int | None, cases: Sequence[Case]) -> Sequence[Case]:
    """Return the cases that stay, evenly spread."""
    if limit is None or limit >= len(cases):
        return cases
    return [cases[number * len(cases) // limit] for number in range(limit)]

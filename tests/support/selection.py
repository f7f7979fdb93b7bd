"""Which tests of a family `make test` leaves to `make test-matrix`: all but a spread over it.

A family is a test function whose cases go through the same mechanism. What stays is chosen so that every kind and every
phase of a family is among it; nothing is left out of both.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of a family's cases in their order every so many-th stays, and besides those whose id has what is named."""

    every: int
    always: str = "(?!)"


FAMILIES = {
    # The vendor's tool stopped: all places where it is known to stick, and each part of its run.
    "test_sweep.py::test_what_the_vendor_leaves": Spread(every=7, always=r"^migrate-.+-(after|before)-"),
    # Two parts of six for each start, each part for some start.
    "test_cut.py::test_a_cut_run_is_made_good_by_the_next": Spread(every=3),
    # Each release with each store, and five of the six offsets.
    "test_two_vendors.py::test_two_at_the_same_time": Spread(every=5),
    "test_own_sweep.py::test_ours_is_stopped": Spread(every=2),
    "test_killed_with_rows.py::test_columns_that_are_added_again": Spread(every=2),
    "test_killed_with_rows.py::test_an_index_build_is_killed": Spread(every=2, always="run_ours-1.13"),
    # Each thing that is killed, early or late.
    "test_online_killed.py::test_killed_and_run_again": Spread(every=6, always="connection-0.85|server-0.3"),
    # Each way to name the schema, each kind of rewrite.
    "test_places.py::test_other_schema": Spread(every=6, always="by_database-online|by_role-in-place"),
    "test_equality.py::test_from_a_version_of_the_vendors_making": Spread(every=2),
    "test_equality.py::test_to_a_version_between": Spread(every=2),
    "test_equality.py::test_step_by_step": Spread(every=2),
    "test_online.py::test_a_table_that_changes_meanwhile_is_left_as_it_is": Spread(every=2),
    "test_online.py::test_what_forbids_it_and_comes_meanwhile": Spread(every=2),
    "test_online.py::test_a_copy_that_is_not_the_table_never_takes_its_place": Spread(every=2),
    "test_online_refusals.py::test_a_hindrance_is_named": Spread(every=2),
    "test_drift.py::test_whatever_was_changed_by_hand": Spread(every=3),
    "test_drift.py::test_what_would_stop_a_step_is_named_first": Spread(every=3),
    "test_drift.py::test_a_harmless_change_keeps_nothing_from_its_target": Spread(every=3),
    "test_traces.py::test_an_unfinished_rewrite_that_has_lost_its_comment": Spread(every=3),
    "test_traces.py::test_a_strangers_schema_stays_and_ends_nothing": Spread(every=3),
    "test_traces.py::test_a_comment_of_another_format": Spread(every=3),
    "test_traces.py::test_a_table_of_somebody_else_in_ours": Spread(every=2),
    "test_owners.py::test_an_event_trigger_that_gives_tables_away": Spread(every=5),
    "test_owners.py::test_two_tenants_in_two_schemas": Spread(every=3),
    "test_create_database.py::test_names_that_nobody_can_have_meant": Spread(every=5),
    "test_found.py::test_what_is_found_and_done": Spread(every=2),
    "test_moving.py::test_another_run_between_two_looks": Spread(every=3),
    "test_repair.py::test_what_cannot_be_repaired_stays_whole": Spread(every=2),
    "test_dropin.py::test_command_lines": Spread(every=2),
    # Each invented step, after some of its statements and at some of its messages.
    "test_invented.py::test_the_vendors_tool_makes_the_same": Spread(every=3),
    "test_invented.py::test_another_tool_has_begun_a_step": Spread(every=3, always="1.34.1-default-1.20-2"),
    "test_invented.py::test_ours_is_stopped": Spread(every=3),
    "test_invented.py::test_ours_is_stopped_between_its_commits": Spread(every=3, always="1.34.3"),
}
"""By file and function; tests/README.md lists them with their numbers."""


def leave_to_the_matrix(items: Iterable[pytest.Item]) -> None:
    """Mark what `make test` leaves out; a case that is for the matrix anyway counts in no family."""
    for family, cases in families(items).items():
        kept = chosen(FAMILIES[family], [case.name for case in cases])
        for case in cases:
            if case.name not in kept:
                case.add_marker("matrix")


def families(items: Iterable[pytest.Item]) -> dict[str, list[pytest.Function]]:
    """Return the cases of each family."""
    found: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and not item.get_closest_marker("matrix"):
            family = f"{item.path.name}::{item.originalname}"
            if family in FAMILIES:
                found.setdefault(family, []).append(item)
    return found


def chosen(spread: Spread, names: Sequence[str]) -> set[str]:
    """Return the names that stay."""
    ids = {name: name.partition("[")[2].rstrip("]") for name in names}
    always = {name for name in names if re.search(spread.always, ids[name])}
    others = [name for name in names if name not in always]
    return always | set(others[:: spread.every])

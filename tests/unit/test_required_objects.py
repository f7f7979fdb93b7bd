"""What Temporal needs and will lack: tables, columns, and the keys that its upserts name."""

import pytest
from packaging.version import Version

from schema_migrator.catalog.snapshot import Snapshot
from schema_migrator.diagnosis import prediction
from schema_migrator.diagnosis.prediction import Predicted, Problem
from schema_migrator.diagnosis.required_objects import lacking, problems
from support.program.tiny_rehearsals import ADD_NOTE, INDEX_TOTAL, NEW_ITEMS, NEW_ORDERS, Effect, edited, past, schema

SHOP = past((NEW_ORDERS, NEW_ITEMS, INDEX_TOTAL), (ADD_NOTE,))
LIVE = SHOP.rehearsal.after[Version("1.0")]
LATEST = SHOP.rehearsal.after[Version("1.1")]
ITEMS_KEY, ORDERS_KEY = "constraint items.items_pkey", "constraint orders.orders_pkey"
NO_WORK = "and Temporal cannot work without it"


def lacks(found: str) -> Problem:
    """Return the problem of an object that Temporal needs."""
    return Problem(found=f"the {found} {NO_WORK}", remedy="repair it first: schema-migrator verify shows the SQL")


def predicted(live: Snapshot) -> tuple[Predicted, ...]:
    """Return the prediction of the second step."""
    return prediction.predict(SHOP.rehearsal, SHOP.source.steps[1:], live)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"index orders.by_total": None, "order orders": "total, id"},
        {"column orders.id": "integer", "table orders": "UNLOGGED"},
        {"column orders.own": "text", "table own": ""},
        {ITEMS_KEY: None, "constraint items.own_name": "PRIMARY KEY (order_id, number)"},
        {ITEMS_KEY: None, "constraint items.own_name": "PRIMARY KEY (number, order_id)"},
        {"constraint items.own_check": "CHECK (number > 0)"},
    ],
)
def test_what_temporal_works_with(changes: Effect) -> None:
    """A definition may differ, indexes may be missing, and a key may have another name or order of columns."""
    assert lacking(LIVE, edited(LIVE, changes)) == ()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"column orders.total": None}, "column orders.total is missing"),
        (dict.fromkeys(NEW_ITEMS.effect), "table items is missing"),
        ({ITEMS_KEY: None}, f"{ITEMS_KEY} is missing, PRIMARY KEY (order_id, number),"),
        (
            {ITEMS_KEY: "PRIMARY KEY (number)"},
            f"{ITEMS_KEY} is PRIMARY KEY (number), expected PRIMARY KEY (order_id, number),",
        ),
        (
            {ITEMS_KEY: "UNIQUE (order_id, number)"},
            f"{ITEMS_KEY} is UNIQUE (order_id, number), expected PRIMARY KEY (order_id, number),",
        ),
        (
            {ITEMS_KEY: "PRIMARY KEY (order_id, number) DEFERRABLE"},
            f"{ITEMS_KEY} is PRIMARY KEY (order_id, number) DEFERRABLE, expected PRIMARY KEY (order_id, number),",
        ),
        (
            {ORDERS_KEY: None, "constraint orders.own_check": "CHECK (id > 0)"},
            f"{ORDERS_KEY} is missing, PRIMARY KEY (id),",
        ),
        (
            {ORDERS_KEY: None, "constraint items.own_key": "PRIMARY KEY (id)"},
            f"{ORDERS_KEY} is missing, PRIMARY KEY (id),",
        ),
    ],
)
def test_what_temporal_cannot_work_without(changes: Effect, found: str) -> None:
    """A missing table, column or key is named, a table once for all its parts."""
    assert lacking(LIVE, edited(LIVE, changes)) == (lacks(found),)


def test_unique_constraints_are_keys() -> None:
    """They are needed as primary keys are; a check is not."""
    expected = edited(
        LIVE, {"constraint orders.once": "UNIQUE (total, id)", "constraint orders.some": "CHECK (id > 0)"}
    )
    assert lacking(expected, LIVE) == (lacks("constraint orders.once is missing, UNIQUE (total, id),"),)
    assert lacking(expected, edited(LIVE, {"constraint orders.other": "UNIQUE (id, total)"})) == ()


def test_everything_that_is_lacking_is_named() -> None:
    """Columns come before keys."""
    live = edited(LIVE, {ORDERS_KEY: None, "column items.number": None})
    assert lacking(LIVE, live) == (
        lacks("column items.number is missing"),
        lacks(f"{ORDERS_KEY} is missing, PRIMARY KEY (id),"),
    )


def test_a_step_that_would_stop_comes_first() -> None:
    """What Temporal lacks is told only if no step would stop halfway."""
    live = edited(LIVE, {"column orders.note": "integer", ITEMS_KEY: None})
    stopping = Problem(
        found="step 1.1 creates the column orders.note, which already exists", remedy="rename it, or drop it"
    )
    assert problems(SHOP.rehearsal, live, predicted(live), Version("1.1")) == (stopping,)


def test_what_the_steps_lead_to_counts() -> None:
    """Temporal may lack what it does not have yet, if a step creates it; without steps it may not."""
    assert problems(SHOP.rehearsal, LIVE, predicted(LIVE), Version("1.1")) == ()
    assert problems(SHOP.rehearsal, LIVE, (), Version("1.1")) == (lacks("column orders.note is missing"),)
    assert problems(SHOP.rehearsal, LATEST, (), Version("1.1")) == ()


def test_the_end_of_the_last_step_counts() -> None:
    """What is missing before all steps and is created by none of them is missing afterwards."""
    live = edited(LIVE, {ITEMS_KEY: None})
    expected = (lacks(f"{ITEMS_KEY} is missing, PRIMARY KEY (order_id, number),"),)
    assert problems(SHOP.rehearsal, live, predicted(live), Version("1.1")) == expected


def test_a_version_that_was_not_rehearsed_needs_nothing() -> None:
    """Another release may have reached it, and its files are not at hand."""
    assert problems(SHOP.rehearsal, schema({}), (), Version("1.9")) == ()

"""Which version, or which statement of a step, a live schema looks like."""

from collections.abc import Sequence

import pytest
from packaging.version import Version

from schema_migrator.catalog.snapshot import Snapshot
from schema_migrator.diagnosis.recognition import later_keys, pending, resume_point, whole_version
from support.program.rehearsed import Past
from support.program.tiny_rehearsals import (
    ADD_NOTE,
    INDEX_TOTAL,
    NEW_ITEMS,
    NEW_ORDERS,
    SHOP,
    Act,
    at_version,
    during,
    keys,
    past,
)

OWN = "index orders.own"
TAKE_NOTE = Act("ALTER TABLE orders DROP COLUMN note", {"column orders.note": None, "order orders": "id, total"})
BACK_AND_FORTH = past((NEW_ORDERS,), (ADD_NOTE,), (TAKE_NOTE,), ())
PASSING = past(
    (NEW_ORDERS,), (INDEX_TOTAL, Act("DROP INDEX by_total", {"index orders.by_total": None})), (ADD_NOTE,), (NEW_ITEMS,)
)


@pytest.mark.parametrize(
    ("recorded", "target", "expected"),
    [
        ("0.0", "1.1", ["1.0", "1.1"]),
        ("1.0", "1.3", ["1.1", "1.3"]),
        ("1.0", "1.1", ["1.1"]),
        ("1.1", "1.1", ["1.3"]),
        ("1.1", "1.2", ["1.3"]),
        ("0.0", "0.0", ["1.0"]),
        ("1.3", "1.3", []),
        ("1.3", "1.0", []),
    ],
)
def test_which_steps_are_pending(recorded: str, target: str, expected: Sequence[str]) -> None:
    """Those with statements up to the target; if there is none, the next one, which may have been begun."""
    found = pending(SHOP.source, Version(recorded), Version(target))
    assert [str(step.version) for step in found] == expected


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        (at_version("1.0"), 0),
        (during("1.1", 1), 1),
        (during("1.1", 2), 2),
        (at_version("1.1"), 3),
        (during("1.1", 1, {OWN: "btree (id)", "table own": ""}), 1),
        (during("1.1", 1, {"index orders.by_total": None, "column orders.id": "integer"}), 1),
        (during("1.1", 1, {"column orders.total": "integer NOT NULL"}), 1),
        (during("1.1", 1, {"column orders.total": "text"}), None),
        (during("1.1", 1, {"order orders": "note, id, total"}), None),
        (during("1.1", 1, {"column orders.note": None, "index orders.by_note": "btree (note)"}), None),
        (during("1.1", 1, {"table items": ""}), None),
        (during("1.1", 1, {"order items": "number"}), 1),
        (Snapshot({}), None),
    ],
)
def test_how_far_a_step_has_come(live: Snapshot, expected: int | None) -> None:
    """As far as the first statement after which all objects that the step touches look like the live ones."""
    assert resume_point(SHOP.rehearsal, Version("1.1"), Version("1.0"), live) == expected


def test_the_first_of_equal_places_counts() -> None:
    """Statements without a trace may not have run; the order of columns tells more than that."""
    moved = Act(
        "ALTER TABLE orders ADD COLUMN total INT", {"column orders.total": "integer", "order orders": "id, note, total"}
    )
    taken = Act("ALTER TABLE orders DROP COLUMN total", {"column orders.total": None, "order orders": "id, note"})
    store = past((NEW_ORDERS, ADD_NOTE), (Act("UPDATE orders SET total = 0"), taken, moved))
    places = [
        resume_point(store.rehearsal, Version("1.1"), Version("1.0"), during("1.1", done, store=store))
        for done in range(4)
    ]
    assert places == [0, 0, 2, 3]


@pytest.mark.parametrize(
    ("store", "recorded", "expected"),
    [
        (SHOP, "0.0", ("column orders.note", "index orders.by_note", *NEW_ITEMS.effect)),
        (SHOP, "1.0", tuple(NEW_ITEMS.effect)),
        (SHOP, "1.1", ()),
        (SHOP, "1.3", ()),
        (PASSING, "0.0", ("index orders.by_total", "column orders.note", *NEW_ITEMS.effect)),
        (PASSING, "1.1", tuple(NEW_ITEMS.effect)),
    ],
)
def test_what_only_later_steps_create(store: Past, recorded: str, expected: tuple[str, ...]) -> None:
    """Objects of the steps after the next one, also those that exist for a while, but not the order of columns."""
    step = pending(store.source, Version(recorded), Version(recorded))
    touched = store.rehearsal.touched(step[0].version) if step else frozenset()
    assert later_keys(store.rehearsal, Version(recorded), touched) == keys(*expected) - keys("order items")


@pytest.mark.parametrize(
    ("store", "live", "expected"),
    [
        (SHOP, at_version("1.3"), "1.3"),
        (SHOP, at_version("1.0"), "1.0"),
        (SHOP, at_version("1.2"), "1.1"),
        (SHOP, at_version("1.3", {OWN: "btree (id)", "table own": "", "order own": "a"}), "1.3"),
        (SHOP, at_version("1.3", {"index orders.by_total": "btree (total)"}), None),
        (SHOP, at_version("1.3", {"column orders.note": "integer"}), None),
        (SHOP, at_version("1.3", {"column orders.note": None}), None),
        (SHOP, at_version("1.3", {"order orders": "note, id, total"}), None),
        (SHOP, at_version("1.1", {"order items": "number"}), "1.1"),
        (SHOP, during("1.1", 1), None),
        (SHOP, Snapshot({}), None),
        (BACK_AND_FORTH, at_version("1.0"), None),
        (BACK_AND_FORTH, at_version("1.3", store=BACK_AND_FORTH), "1.2"),
        (BACK_AND_FORTH, at_version("1.1", store=BACK_AND_FORTH), "1.1"),
    ],
)
def test_which_version_a_schema_is(store: Past, live: Snapshot, expected: str | None) -> None:
    """The highest version that it equals, or an equal one right below; no object may be another version's."""
    known = store.rehearsal.known | keys("index orders.by_total")
    assert whole_version(store.rehearsal, live, known) == (expected and Version(expected))

"""How a step that was begun runs on: which of its statements may have run, and in which form they run again."""

from collections.abc import Sequence

import pytest

from schema_migrator.diagnosis.repetition import separable, to_run, unrepeatable
from support.program.rehearsed import Past
from support.program.tiny_rehearsals import ADD_NOTE, INDEX_NOTE, NEW_ITEMS, NEW_ORDERS, Act, past

ONE_ORDER = "INSERT INTO orders (id) VALUES (1)"
ONE_ITEM = "INSERT INTO items (order_id, number) VALUES (1, 1)"
TOTALS = "UPDATE orders SET total = 0"
TWICE = "UPDATE orders SET total = total * 2"
NO_KEY = "INSERT INTO items (order_id) VALUES (1)"
ANOTHER = "INSERT INTO orders (id) VALUES (2)"
ONE_TOTAL = "INSERT INTO orders (total) VALUES (1)"
UNIQUE_TOTAL = Act("ALTER TABLE orders ADD UNIQUE (total)", {"constraint orders.orders_total_key": "UNIQUE (total)"})
CHECKED_TOTAL = Act("ALTER TABLE orders ADD CHECK (total)", {"constraint orders.orders_check": "CHECK (total)"})
MORE = " ON CONFLICT DO NOTHING"


def begun(*acts: str | Act) -> Past:
    """Return a store whose second step has these statements; a mere text is one that changes only rows."""
    return past((NEW_ORDERS, NEW_ITEMS), [act if isinstance(act, Act) else Act(act) for act in acts])


def texts(store: Past, *remaining: int) -> list[str]:
    """Return what of the begun step runs, if these of its statements are left."""
    return [each.text for each in to_run(store.rehearsal, store.source.steps[1], remaining)]


def doubted(store: Past, *remaining: int) -> str | None:
    """Return the statement that must not run twice, though it may have run."""
    found = unrepeatable(store.rehearsal, store.source.steps[1], remaining)
    return found.text if found else None


FILLED = begun(ONE_ORDER, ONE_ITEM, TOTALS, ADD_NOTE, ANOTHER)


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [
        ((0, 1, 2, 3, 4), [ONE_ORDER + MORE, ONE_ITEM + MORE, TOTALS, ADD_NOTE.text, ANOTHER]),
        ((1, 2, 3, 4), [ONE_ITEM + MORE, TOTALS, ADD_NOTE.text, ANOTHER]),
        ((3, 4), [ADD_NOTE.text, ANOTHER]),
        ((4,), [ANOTHER + MORE]),
        ((), []),
        ((0, 3, 4), [ONE_ORDER + MORE, ADD_NOTE.text, ANOTHER + MORE]),
        ((0, 3), [ONE_ORDER + MORE, ADD_NOTE.text]),
    ],
)
def test_rows_that_may_exist_are_left_alone(remaining: Sequence[int], expected: list[str]) -> None:
    """An INSERT before the first effect that is missing may have run; after statements out of order, any may have."""
    assert texts(FILLED, *remaining) == expected


@pytest.mark.parametrize(
    ("remaining", "expected"), [((0, 1, 2), TWICE), ((1, 2), None), ((2,), NO_KEY), ((0, 2), TWICE), ((1,), None)]
)
def test_what_must_not_run_twice(remaining: Sequence[int], expected: str | None) -> None:
    """The first statement that may have run and cannot run again; it stays as it is written."""
    store = begun(TWICE, ADD_NOTE, NO_KEY)
    assert doubted(store, *remaining) == expected
    assert texts(store, *remaining) == [[TWICE, ADD_NOTE.text, NO_KEY][index] for index in remaining]


def test_what_may_run_twice_is_passed_over() -> None:
    """A statement that must not run twice is found behind others that may."""
    assert doubted(begun(TOTALS, ONE_ORDER, TWICE, NO_KEY), 0, 1, 2, 3) == TWICE
    assert doubted(begun(TOTALS, ONE_ORDER), 0, 1) is None


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ((ONE_ORDER, ADD_NOTE, TOTALS), True),
        ((ONE_ORDER, ADD_NOTE, TWICE), False),
        ((ONE_ITEM,), True),
        ((NO_KEY,), False),
        (("INSERT INTO items (id, number) VALUES (1, 1)",), False),
        (("INSERT INTO shops (id) VALUES (1)",), False),
        ((UNIQUE_TOTAL, ONE_TOTAL), True),
        ((ONE_TOTAL, UNIQUE_TOTAL), False),
        ((CHECKED_TOTAL, ONE_TOTAL), False),
    ],
)
def test_which_steps_may_be_committed_in_parts(acts: Sequence[str | Act], *, expected: bool) -> None:
    """Each statement may run again, an INSERT if it names a whole key that its own table has by then."""
    store = begun(*acts)
    assert separable(store.rehearsal, store.source.steps[1], range(len(acts))) == expected


def test_only_the_rest_has_to_be_separable() -> None:
    """A statement that ran for certain does not count."""
    store = begun(ADD_NOTE, TWICE, INDEX_NOTE)
    assert [separable(store.rehearsal, store.source.steps[1], range(first, 3)) for first in range(4)] == [
        False,
        False,
        True,
        True,
    ]

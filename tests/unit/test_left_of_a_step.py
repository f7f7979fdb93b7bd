"""Which statements are left of a step that two tools applied at the same time."""

import pytest

from schema_migrator.diagnosis import out_of_order
from support.program.tiny_rehearsals import ADD_NOTE, INDEX_NOTE, NEW_ORDERS, Act, Effect, edited, schema, snapshots

ORDERS = schema(NEW_ORDERS.effect)
NOTE, BY_NOTE, SHOP = "column orders.note", "index orders.by_note", "column orders.shop"
FOUND, TOTAL = "index orders.found", "column orders.total"
OF_TOTAL = "CREATE INDEX found ON orders USING btree (total)"
OF_ID = "CREATE INDEX found ON orders USING btree (id)"
OF_NOTE = "CREATE INDEX found ON orders USING btree (note)"

NOTED = (ADD_NOTE, INDEX_NOTE)
WIDENED = (
    Act("ALTER TABLE orders ADD COLUMN shop SMALLINT", {SHOP: "smallint"}),
    Act("ALTER TABLE orders ALTER COLUMN shop TYPE INT", {SHOP: "integer"}),
    Act("ALTER TABLE orders ALTER COLUMN shop TYPE BIGINT", {SHOP: "bigint"}),
)
TWO_AT_ONCE = (
    Act("ALTER TABLE orders ADD COLUMN note TEXT, ADD COLUMN shop INT", {NOTE: "text", SHOP: "integer"}),
    Act("ALTER TABLE orders ALTER COLUMN shop TYPE BIGINT", {SHOP: "bigint"}),
)
FILLED = (ADD_NOTE, Act("UPDATE orders SET note = ''"))
PASSING = (Act("CREATE INDEX found ON orders (total)", {FOUND: OF_TOTAL}), Act("DROP INDEX found", {FOUND: None}))
REPLACED = (Act("DROP INDEX found", {FOUND: None}), Act("CREATE INDEX found ON orders (note)", {FOUND: OF_NOTE}))
DROPPED = (
    Act("ALTER TABLE orders DROP COLUMN total", {TOTAL: None, "order orders": "id"}),
    Act("CREATE INDEX found ON orders (note)", {FOUND: OF_NOTE}),
)


def left(acts: tuple[Act, ...], found: Effect, before: Effect) -> list[int] | None:
    """Return what is left of a step if the live schema differs from the one before it in what was `found`."""
    start = edited(ORDERS, before)
    return out_of_order.remaining(snapshots(start, acts), edited(start, found))


@pytest.mark.parametrize(
    ("acts", "found", "expected"),
    [
        (NOTED, {}, [0, 1]),
        (NOTED, {NOTE: "text"}, [1]),
        (NOTED, {BY_NOTE: INDEX_NOTE.effect[BY_NOTE]}, [0]),
        (NOTED, {NOTE: "text", BY_NOTE: INDEX_NOTE.effect[BY_NOTE]}, []),
        (WIDENED, {}, [0, 1, 2]),
        (WIDENED, {SHOP: "smallint"}, [1, 2]),
        (WIDENED, {SHOP: "integer"}, None),
        (WIDENED, {SHOP: "bigint"}, []),
        (WIDENED[:2], {SHOP: "text"}, None),
        (FILLED, {}, [0, 1]),
        (FILLED, {NOTE: "text"}, [1]),
        (TWO_AT_ONCE, {}, [0, 1]),
        (TWO_AT_ONCE, {NOTE: "text"}, [0, 1]),
        (TWO_AT_ONCE, {NOTE: "text", SHOP: "integer"}, [1]),
        (TWO_AT_ONCE, {SHOP: "integer"}, None),
        (TWO_AT_ONCE, {NOTE: "text", SHOP: "text"}, None),
        (PASSING, {}, []),
        (PASSING, {FOUND: OF_TOTAL}, [1]),
    ],
)
def test_what_is_left(acts: tuple[Act, ...], found: Effect, expected: list[int] | None) -> None:
    """A statement is left out where its final effect exists; where objects are at neither end, nothing is certain."""
    assert left(acts, found, before={}) == expected


@pytest.mark.parametrize(
    ("found", "expected"), [({}, [0, 1]), ({FOUND: None}, [1]), ({FOUND: OF_NOTE}, []), ({FOUND: "strange"}, None)]
)
def test_what_is_replaced(found: Effect, expected: list[int] | None) -> None:
    """An index that the step drops and creates again is dropped only where it is still the old one."""
    assert left(REPLACED, found, before={FOUND: OF_TOTAL, NOTE: "text"}) == expected


@pytest.mark.parametrize(("of_hand", "expected"), [(OF_TOTAL, [0, 1]), (OF_ID, None)])
def test_what_is_dropped_with_a_column(of_hand: str, expected: list[int] | None) -> None:
    """An index of the same name, made by hand, matters unless it is dropped with its column first."""
    assert left(DROPPED, {FOUND: of_hand}, before={NOTE: "text"}) == expected


def test_the_order_of_columns_does_not_count() -> None:
    """A column that exists at another place is done."""
    assert left(NOTED, {NOTE: "text", "order orders": "note, id, total"}, before={}) == [1]

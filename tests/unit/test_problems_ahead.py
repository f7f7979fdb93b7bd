"""What would stop a step halfway on a live schema, in whole sentences."""

import pytest

from schema_migrator.diagnosis.prediction import Problem, predict
from support.program.tiny_rehearsals import (
    ADD_NOTE,
    INDEX_NOTE,
    INDEX_TOTAL,
    NEW_ITEMS,
    NEW_ORDERS,
    WIDER_TOTAL,
    Act,
    Effect,
    edited,
    past,
)

NOTE, TOTAL, KEY = "column orders.note", "column orders.total", "constraint orders.orders_pkey"
BY_ID, BY_TOTAL, AGAIN = "index orders.by_id", "index orders.by_total", "index orders.again"
SHOPS, TAX, GIN = "table shops", "function tax(integer)", "extension btree_gin"
PARTITIONED = {"table orders": "PARTITIONED"}
ALL_OF_ORDERS = (*NEW_ORDERS.effect, BY_TOTAL, BY_ID)

BEFORE = (
    NEW_ORDERS,
    INDEX_TOTAL,
    Act("CREATE INDEX by_id ON orders (id)", {BY_ID: "btree (id)"}),
    Act("CREATE UNLOGGED TABLE shops (id INT)", {SHOPS: "UNLOGGED", "column shops.id": "integer"}),
    Act(
        "CREATE FUNCTION tax",
        {TAX: "RETURNS integer LANGUAGE sql IMMUTABLE AS $fn$SELECT 19 /* any LANGUAGE will do */$fn$"},
    ),
    Act("CREATE EXTENSION btree_gin", {GIN: ""}),
)
KEEP_NOTE = Act("ALTER TABLE orders ADD COLUMN IF NOT EXISTS note TEXT", {NOTE: "text"})
ADD_TWO = Act("ALTER TABLE orders ADD b INT, ADD a INT", {"column orders.b": "integer", "column orders.a": "integer"})
LOGGED = Act("ALTER TABLE shops SET LOGGED", {SHOPS: ""})
DROP_TOTAL = Act("ALTER TABLE orders DROP COLUMN total", {TOTAL: None, BY_TOTAL: None})
DROP_TWO = Act(
    "ALTER TABLE orders DROP total, DROP id", dict.fromkeys((TOTAL, BY_TOTAL, "column orders.id", BY_ID, KEY))
)
DROP_INDEXES = Act("DROP INDEX by_total, by_id", {BY_TOTAL: None, BY_ID: None})
DROP_IF_THERE = Act("DROP INDEX if exists by_total, by_id", {BY_TOTAL: None, BY_ID: None})
DROP_ORDERS = Act("DROP TABLE orders", dict.fromkeys(ALL_OF_ORDERS))
LONGER_KEY = Act("ALTER TABLE orders ...", {KEY: "PRIMARY KEY (id, total)", NOTE: "text"})
ON_TOTAL = Act("CREATE INDEX again ON orders (total)", {AGAIN: "btree (total)"})
ON_ID = Act("CREATE INDEX again ON orders (id)", {AGAIN: "btree (id)"})
TAXED = Act("CREATE INDEX again ON orders (tax(id))", {AGAIN: "btree (tax(id))"})
ON_GIN = Act("CREATE INDEX again ON orders USING gin (id)", {AGAIN: "CREATE INDEX again ON orders USING gin (id)"})
CHECK = Act("ALTER TABLE orders ADD CHECK (total > 0)", {"constraint orders.some": "CHECK (total > 0)"})
EXCLUDE = Act("ALTER TABLE orders ADD EXCLUDE ...", {"constraint orders.some": "EXCLUDE USING gin (id WITH =)"})
TWICE = Act("ALTER TABLE orders ADD twice INT ...", {"column orders.twice": "integer DEFAULT (total * 2)"})
SURTAXED = Act("CREATE INDEX again ON orders (surtax(id))", {AGAIN: "btree (surtax(id))"})
TAXES = Act("ALTER TABLE orders ADD taxes INT ...", {"column orders.taxes": "integer DEFAULT tax(1)"})
TRIGGER = Act("CREATE TRIGGER each ...", {"trigger orders.each": "BEFORE UPDATE OF total"})


def problems(*acts: Act, found: Effect) -> tuple[Problem, ...]:
    """Return what would stop a step on a schema that differs from the rehearsed one in what was `found`."""
    store = past(BEFORE, acts)
    first, second = store.source.steps
    return predict(store.rehearsal, [second], edited(store.rehearsal.after[first.version], found))[0].problems


@pytest.mark.parametrize(
    ("acts", "found"),
    [
        ((ADD_NOTE, INDEX_NOTE, WIDER_TOTAL), {}),
        ((ADD_NOTE,), {NOTE: "text"}),
        ((KEEP_NOTE,), {NOTE: "text"}),
        ((ADD_NOTE,), {"table orders": "UNLOGGED"}),
        ((NEW_ITEMS, ON_ID), {SHOPS: "PARTITIONED"}),
        ((WIDER_TOTAL,), {TOTAL: "integer NOT NULL"}),
        ((LONGER_KEY,), {KEY: "PRIMARY KEY (id, total)"}),
        ((DROP_TOTAL,), {BY_TOTAL: None}),
        ((DROP_TOTAL,), {"index orders.own": "btree (total)"}),
        ((DROP_TOTAL,), {BY_ID: "btree (id DESC)"}),
        ((DROP_IF_THERE,), {BY_TOTAL: None}),
        ((DROP_ORDERS,), {TOTAL: None, BY_TOTAL: None, KEY: None}),
        ((ON_TOTAL, CHECK, TWICE), {TOTAL: "integer NOT NULL DEFAULT 0"}),
        ((ON_ID,), {TOTAL: None, "column shops.id": None, TAX: None, GIN: None, KEY: None, BY_ID: None}),
        ((TAXED,), {TAX: "RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $fn$...$fn$"}),
        ((TAXED,), {"function surtax(integer)": "RETURNS integer"}),
        ((SURTAXED,), {TAX: None}),
        ((ON_GIN,), {}),
        ((EXCLUDE,), {GIN: None}),
        ((TRIGGER,), {TOTAL: None}),
    ],
)
def test_what_stops_no_step(acts: tuple[Act, ...], found: Effect) -> None:
    """The step ends as in the rehearsal, apart from what it does not change."""
    assert problems(*acts, found=found) == ()


NEEDS = "creates the index orders.again, which needs the"


@pytest.mark.parametrize(
    ("act", "found", "said"),
    [
        (ADD_NOTE, PARTITIONED, "changes the table orders, which was changed to a partitioned table"),
        (
            LOGGED,
            {SHOPS: "PARTITIONED UNLOGGED"},
            f"changes the {SHOPS}, which is PARTITIONED UNLOGGED, expected UNLOGGED",
        ),
        (ADD_NOTE, {NOTE: "integer"}, "creates the column orders.note, which already exists"),
        (KEEP_NOTE, {NOTE: "integer"}, "creates the column orders.note, which already exists"),
        (ADD_TWO, {"column orders.a": "integer"}, "creates the column orders.a, which already exists"),
        (DROP_INDEXES, {BY_TOTAL: None}, "drops the index orders.by_total, which does not exist"),
        (DROP_TWO, {TOTAL: None, BY_TOTAL: None}, "drops the column orders.total, which does not exist"),
        (DROP_TOTAL, {BY_ID: "btree (id, total)"}, f"drops a column that the {BY_ID}, changed by hand, uses"),
        (WIDER_TOTAL, {TOTAL: "text"}, f"changes the {TOTAL}, which is text, expected integer"),
        (WIDER_TOTAL, {TOTAL: None}, f"changes the {TOTAL}, which is not there"),
        (
            LONGER_KEY,
            {KEY: "PRIMARY KEY (total)"},
            f"changes the {KEY}, which is PRIMARY KEY (total), expected PRIMARY KEY (id)",
        ),
        (LONGER_KEY, {KEY: None}, f"changes the {KEY}, which is not there"),
        (ON_TOTAL, {TOTAL: None}, f"{NEEDS} {TOTAL}: that is not there"),
        (ON_TOTAL, {TOTAL: "text"}, f"{NEEDS} {TOTAL}: that was changed by hand"),
        (
            CHECK,
            {TOTAL: "text"},
            f"creates the constraint orders.some, which needs the {TOTAL}: that was changed by hand",
        ),
        (TWICE, {TOTAL: None}, f"creates the column orders.twice, which needs the {TOTAL}: that is not there"),
        (TAXES, {TAX: None}, f"creates the column orders.taxes, which needs the {TAX}: that is not there"),
        (TAXED, {TAX: None}, f"{NEEDS} {TAX}: that is not there"),
        (TAXED, {TAX: "RETURNS text LANGUAGE sql IMMUTABLE AS"}, f"{NEEDS} {TAX}: that was changed by hand"),
        (TAXED, {TAX: "RETURNS integer[] LANGUAGE sql IMMUTABLE AS"}, f"{NEEDS} {TAX}: that was changed by hand"),
        (TAXED, {TAX: "RETURNS integer LANGUAGE sql STABLE AS"}, f"{NEEDS} {TAX}: that was changed by hand"),
        (TAXED, {"function tax(text)": "RETURNS integer"}, f"{NEEDS} {TAX}: that was changed by hand"),
        (ON_GIN, {GIN: None}, f"{NEEDS} {GIN}: that is not there"),
    ],
)
def test_what_stops_a_step(act: Act, found: Effect, said: str) -> None:
    """Each reason names the step and the object, with what to do about it."""
    repair = "repair it first: schema-migrator verify shows the SQL"
    remedy = "rename it, or drop it" if said.endswith("which already exists") else repair
    assert problems(act, found=found) == (Problem(found=f"step 1.1 {said}", remedy=remedy),)


def test_each_reason_is_told_once() -> None:
    """Two statements that fail for the same reason give one problem."""
    (problem,) = problems(ADD_NOTE, WIDER_TOTAL, found=PARTITIONED)
    assert problem.found == "step 1.1 changes the table orders, which was changed to a partitioned table"


def test_all_reasons_are_told() -> None:
    """Of a statement by the names of the objects, and of the statements in their order."""
    found = problems(
        ADD_TWO, DROP_INDEXES, found={"column orders.a": "text", "column orders.b": "text", BY_TOTAL: None}
    )
    assert [problem.found.removeprefix("step 1.1 ") for problem in found] == [
        "creates the column orders.a, which already exists",
        "creates the column orders.b, which already exists",
        "drops the index orders.by_total, which does not exist",
    ]


def test_a_missing_table_stops_no_statement_by_itself() -> None:
    """It is named among what Temporal lacks after the step."""
    assert problems(ADD_NOTE, found={"table orders": None}) == ()

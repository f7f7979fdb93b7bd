"""A live schema without the manual changes beside what a step changes, and what is dropped with its table or column."""

import pytest

from schema_migrator.diagnosis.prediction import depends_on, undrifted
from support.program.tiny_rehearsals import NEW_ITEMS, NEW_ORDERS, Act, Effect, edited, key, keys, schema, snapshots

CODE, TOTAL, OLD = "column orders.code", "column orders.total", "index orders.old"
BEFORE = edited(
    schema(NEW_ORDERS.effect), {CODE: "varchar(10) NOT NULL", OLD: "btree (total)", "index orders.by_id": "btree (id)"}
)
LONGER = Act("ALTER TABLE orders ALTER COLUMN code TYPE VARCHAR(20)", {CODE: "varchar(20) NOT NULL"})
LOOSER = Act("ALTER TABLE orders ALTER COLUMN code DROP NOT NULL", {CODE: "varchar(20)"})
DROP_OLD = Act("DROP INDEX old", {OLD: None})
CHANGE_OLD = Act("ALTER INDEX old SET (fillfactor = 50)", {OLD: "btree (total) WITH (fillfactor=50)"})
DROP_CODE = Act("ALTER TABLE orders DROP COLUMN code", {CODE: None})
DROP_TABLE = Act("DROP TABLE orders", dict.fromkeys(NEW_ORDERS.effect))


@pytest.mark.parametrize(
    ("acts", "found", "expected"),
    [
        ((LONGER,), {}, {}),
        ((LONGER,), {CODE: "varchar(10) DEFAULT ''"}, {CODE: "varchar(10) NOT NULL"}),
        ((LONGER,), {CODE: "varchar(20) DEFAULT ''"}, {CODE: "varchar(20) NOT NULL"}),
        ((LONGER,), {CODE: "varchar(15) NOT NULL"}, {CODE: "varchar(15) NOT NULL"}),
        ((LONGER,), {CODE: None}, {CODE: None}),
        ((LONGER,), {TOTAL: "integer DEFAULT 0"}, {TOTAL: "integer DEFAULT 0"}),
        ((LONGER, LOOSER), {CODE: "varchar(20) NOT NULL DEFAULT ''"}, {CODE: "varchar(20) NOT NULL"}),
        ((LONGER, LOOSER), {CODE: "varchar(10)"}, {CODE: "varchar(10)"}),
        ((DROP_CODE,), {CODE: "text"}, {CODE: "varchar(10) NOT NULL"}),
        ((LONGER, DROP_CODE), {CODE: "text"}, {CODE: "text"}),
        ((LONGER, DROP_CODE), {CODE: "varchar(20)"}, {CODE: "varchar(20) NOT NULL"}),
        ((DROP_OLD,), {OLD: "btree (id)"}, {OLD: "btree (total)"}),
        ((LONGER, DROP_OLD), {OLD: "btree (id)"}, {OLD: "btree (total)"}),
        ((DROP_OLD, CHANGE_OLD), {OLD: "btree (id)"}, {OLD: "btree (id)"}),
        ((CHANGE_OLD, DROP_OLD), {OLD: "btree (id)"}, {OLD: "btree (id)"}),
        (
            (CHANGE_OLD, DROP_OLD),
            {OLD: "btree (total) WITH (fillfactor=50)"},
            {OLD: "btree (total) WITH (fillfactor=50)"},
        ),
        ((DROP_TABLE,), {"order orders": "total, id"}, {"order orders": "total, id"}),
        ((DROP_TABLE,), {"table orders": "UNLOGGED"}, {"table orders": ""}),
        ((DROP_TABLE,), {"table orders": "PARTITIONED"}, {"table orders": "PARTITIONED"}),
        ((NEW_ITEMS,), {"index items.own": "btree (number)"}, {"index items.own": "btree (number)"}),
        ((NEW_ITEMS,), {"column items.number": "integer"}, {"column items.number": "integer"}),
        ((NEW_ITEMS,), {"column items.number": "text"}, {"column items.number": "text"}),
        (
            (NEW_ITEMS,),
            {"constraint items.items_pkey": "UNIQUE (number)"},
            {"constraint items.items_pkey": "UNIQUE (number)"},
        ),
    ],
)
def test_what_the_live_objects_count_as(acts: tuple[Act, ...], found: Effect, expected: Effect) -> None:
    """An object counts as the rehearsed one that it equals in all that the step changes; any other as itself."""
    assert undrifted(snapshots(BEFORE, acts), edited(BEFORE, found)) == edited(BEFORE, expected)


@pytest.mark.parametrize(
    ("name", "definition", "gone", "expected"),
    [
        ("index orders.old", "btree (total)", ["column orders.total"], True),
        ("index orders.old", "btree (total)", ["column orders.id", "column orders.total"], True),
        ("index orders.old", "btree (subtotal, total_sum)", ["column orders.total"], False),
        ("index orders.old", "btree (total)", ["column items.total"], False),
        ("index orders.old", "btree (total)", ["index orders.total"], False),
        ("index orders.old", "btree (id) WHERE total > 0", ["column orders.total"], True),
        ("index orders.old", "btree (a$b)", ["column orders.a$b"], True),
        ("constraint orders.some", "CHECK (total > 0)", ["column orders.total"], True),
        ("trigger orders.each", "UPDATE OF total", ["column orders.total"], False),
        ("column orders.id", "bigint DEFAULT total", ["column orders.total"], False),
        ("trigger orders.each", "UPDATE OF total", ["table orders"], True),
        ("column orders.id", "bigint", ["table items", "table orders"], True),
        ("column orders.id", "bigint", ["table items"], False),
        ("column orders.id", "bigint", ["index orders"], False),
        ("index orders.old", "btree (total)", [], False),
    ],
)
def test_what_is_dropped_with_others(name: str, definition: str, gone: list[str], *, expected: bool) -> None:
    """With a table all its parts, with a column the indexes and constraints that name it."""
    assert depends_on(key(name), definition, keys(*gone)) == expected

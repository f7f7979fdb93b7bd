"""What a step makes of a live schema that differs from the rehearsed one, and which of its statements run."""

import pytest
from packaging.version import Version

from schema_migrator.catalog.snapshot import Snapshot
from schema_migrator.diagnosis.prediction import Predicted, predict
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
    keys,
    past,
)

NOTE, TOTAL = "column orders.note", "column orders.total"
KEY = "constraint orders.orders_pkey"
BY_NOTE, BY_TOTAL = "index orders.by_note", "index orders.by_total"
KEEP_NOTE = Act("ALTER TABLE orders ADD COLUMN IF NOT EXISTS note TEXT", ADD_NOTE.effect)
FILL = Act("UPDATE orders SET note = ''")
DROP_TOTAL = Act("ALTER TABLE orders DROP COLUMN total", {TOTAL: None, BY_TOTAL: None, "order orders": "id, note"})
SHOP = past(
    (NEW_ORDERS, INDEX_TOTAL),
    (ADD_NOTE, INDEX_NOTE, FILL, WIDER_TOTAL),
    (NEW_ITEMS, DROP_TOTAL),
)
FIRST = SHOP.rehearsal.after[Version("1.0")]
SECOND = SHOP.rehearsal.after[Version("1.1")]


def predicted(*acts: Act, found: Effect) -> Predicted:
    """Return the prediction of one step on orders that differ from the rehearsed ones in what was `found`."""
    store = past((NEW_ORDERS, INDEX_TOTAL), acts)
    (only,) = predict(store.rehearsal, store.source.steps[1:], edited(FIRST, found))
    return only


def test_steps_run_one_after_another() -> None:
    """Each starts where the one before it ends, and its own changes by hand stay."""
    live = edited(FIRST, {TOTAL: "integer NOT NULL", "table own": ""})
    second, third = predict(SHOP.rehearsal, SHOP.source.steps[1:], live)
    assert (str(second.version), second.remaining, second.problems) == ("1.1", (0, 1, 2, 3), ())
    assert (str(third.version), third.remaining, third.problems) == ("1.2", (0, 1), ())
    assert second.start == live.unordered()
    assert third.start == second.end == edited(SECOND, {TOTAL: "bigint NOT NULL", "table own": ""}).unordered()
    assert third.end == edited(SHOP.rehearsal.after[Version("1.2")], {"table own": ""}).unordered()


def test_of_a_begun_step_the_rest_runs() -> None:
    """Only of that one; of any other all statements run."""
    live = edited(FIRST, {NOTE: "text"})
    second, third = predict(SHOP.rehearsal, SHOP.source.steps[1:], live, {Version("1.1"): (1, 3)})
    assert (second.remaining, third.remaining) == ((1, 3), (0, 1))
    assert second.end == SECOND.unordered()


def test_invalid_indexes_count_as_rebuilt() -> None:
    """They are rebuilt before any step runs."""
    broken = edited(FIRST, {BY_TOTAL: f"{FIRST.objects[next(iter(keys(BY_TOTAL)))]} /* INVALID */"})
    assert predict(SHOP.rehearsal, SHOP.source.steps[1:2], broken)[0].start == FIRST.unordered()


@pytest.mark.parametrize(
    ("acts", "found", "remaining"),
    [
        ((ADD_NOTE, INDEX_NOTE, FILL), {}, (0, 1, 2)),
        ((ADD_NOTE, INDEX_NOTE, FILL), {NOTE: "text"}, (1, 2)),
        ((ADD_NOTE, INDEX_NOTE, FILL), INDEX_NOTE.effect, (0, 2)),
        ((ADD_NOTE, INDEX_NOTE, FILL), {NOTE: "text", **INDEX_NOTE.effect}, (2,)),
        ((ADD_NOTE,), {NOTE: "text NOT NULL"}, (0,)),
        ((KEEP_NOTE,), {NOTE: "text"}, (0,)),
        ((DROP_TOTAL,), {TOTAL: None}, (0,)),
        ((DROP_TOTAL,), {TOTAL: None, BY_TOTAL: None}, ()),
    ],
)
def test_what_is_done_is_left_out(acts: tuple[Act, ...], found: Effect, remaining: tuple[int, ...]) -> None:
    """A statement does not run if its whole effect exists, unless it looks for that by itself."""
    assert predicted(*acts, found=found).remaining == remaining


@pytest.mark.parametrize(
    ("act", "found", "end"),
    [
        (WIDER_TOTAL, {TOTAL: "integer NOT NULL DEFAULT 7"}, {TOTAL: "bigint NOT NULL DEFAULT 7"}),
        (WIDER_TOTAL, {TOTAL: None}, {TOTAL: "bigint"}),
        (
            Act("ALTER TABLE orders ALTER COLUMN id TYPE INT", {"column orders.id": "integer NOT NULL"}),
            {"column orders.id": "bigint"},
            {"column orders.id": "integer"},
        ),
        (ADD_NOTE, {NOTE: "text DEFAULT ''"}, {NOTE: "text"}),
        (ADD_NOTE, {"index orders.own": "btree (id)"}, {NOTE: "text", "index orders.own": "btree (id)"}),
        (DROP_TOTAL, {"index orders.own": "btree (total)"}, {TOTAL: None, BY_TOTAL: None}),
        (
            DROP_TOTAL,
            {"index orders.own": "btree (id)"},
            {TOTAL: None, BY_TOTAL: None, "index orders.own": "btree (id)"},
        ),
        (
            Act(
                "ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id, total)",
                {KEY: "PRIMARY KEY (id, total)"},
            ),
            {KEY: "PRIMARY KEY (total)"},
            {KEY: "PRIMARY KEY (id, total)"},
        ),
    ],
)
def test_what_a_statement_leaves_behind(act: Act, found: Effect, end: Effect) -> None:
    """Parts of a column that it does not change stay as they are, and what uses a dropped column is dropped."""
    assert predicted(act, found=found).end == edited(FIRST, end).unordered()


def test_a_step_is_proved_by_what_it_touches() -> None:
    """The proof has the touched objects before and after the step, and leaves out all others."""
    proof = predicted(ADD_NOTE, WIDER_TOTAL, DROP_TOTAL, found={TOTAL: "integer DEFAULT 0"}).proof
    assert proof.touched == keys(NOTE, TOTAL, BY_TOTAL)
    assert proof.start == edited(FIRST, {TOTAL: "integer DEFAULT 0"}).only(keys(TOTAL, BY_TOTAL))
    assert proof.end == edited(Snapshot({}), {NOTE: "text"})
    assert proof.dropped == keys(TOTAL)
    assert proof.known == keys(*NEW_ORDERS.effect, NOTE, BY_TOTAL)


@pytest.mark.parametrize(
    ("acts", "found", "created"),
    [
        ((ADD_NOTE, INDEX_NOTE), {}, (NOTE, BY_NOTE)),
        ((ADD_NOTE, INDEX_NOTE), {NOTE: "text"}, (BY_NOTE,)),
        ((KEEP_NOTE, INDEX_NOTE), {NOTE: "text"}, (BY_NOTE,)),
        ((WIDER_TOTAL,), {}, ()),
        ((DROP_TOTAL,), {}, ()),
    ],
)
def test_which_objects_are_new(acts: tuple[Act, ...], found: Effect, created: tuple[str, ...]) -> None:
    """Those that a statement creates, and that are not there when the step begins."""
    assert predicted(*acts, found=found).proof.created == keys(*created)


@pytest.mark.parametrize(
    ("acts", "retyped"),
    [
        ((WIDER_TOTAL,), (TOTAL,)),
        ((WIDER_TOTAL, ADD_NOTE, INDEX_NOTE), (TOTAL,)),
        ((Act("ALTER TABLE orders ALTER COLUMN total SET DEFAULT 0", {TOTAL: "integer DEFAULT 0"}),), ()),
        (
            (ADD_NOTE, Act("ALTER TABLE orders ALTER COLUMN note TYPE VARCHAR", {NOTE: "varchar"}), WIDER_TOTAL),
            (NOTE, TOTAL),
        ),
        ((DROP_TOTAL,), ()),
        ((Act("ALTER INDEX by_total SET (fillfactor = 50)", {BY_TOTAL: "btree (total) WITH (fillfactor='50')"}),), ()),
    ],
)
def test_which_columns_are_retyped(acts: tuple[Act, ...], retyped: tuple[str, ...]) -> None:
    """Those that exist before and after a statement with another type."""
    assert predicted(*acts, found={}).proof.retyped == keys(*retyped)

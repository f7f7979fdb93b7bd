"""Which plans rewrite a table online, and why others do not."""

from collections.abc import Mapping
from typing import Literal

import pytest
from packaging.version import Version

from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.diagnosis.state import Absent, Between, State
from schema_migrator.planning.plan import ONLINE_BYTES, Online, PlanOptions
from schema_migrator.planning.rewrite_span import TargetShape
from support.program.factories import at
from support.program.tiny_plans import TABLE, Shop, index, moment, step, table

OLD, ITEMS = table("id bigint, day date, note text"), table("id bigint", "items")
PRICE = table("id bigint, price int", "items")
KIND = table("id bigint, day date, note text, kind text")
YEAR = table("id bigint, day date, note text, kind text, year int")
YEAR_ALONE = table("id bigint, day date, note text, year int")
NEW = table("id bigint, day date, kind text, year int")
BY_KIND, BY_PRICE = index("by_kind", "kind"), index("by_price", "price", "items")
SHOP = Shop(
    told=(
        (step("1.0", "CREATE TABLE orders ()", "CREATE TABLE items ()"), [moment(OLD), moment(OLD, ITEMS)]),
        (step("1.1", "ALTER TABLE items ADD COLUMN price int"), [moment(OLD, PRICE)]),
        (
            step("1.2", "ALTER TABLE orders ADD COLUMN kind text", "ALTER TABLE orders ADD COLUMN year int"),
            [moment(KIND, PRICE, file=2), moment(YEAR, PRICE, file=3)],
        ),
        (step("1.3", "ALTER TABLE orders DROP COLUMN note"), [moment(NEW, PRICE, file=3)]),
        (step("1.4", "CREATE INDEX by_kind ON orders (kind)"), [moment(NEW, PRICE, BY_KIND, file=3)]),
        (step("1.5", "CREATE INDEX by_price ON items (price)"), [moment(NEW, PRICE, BY_KIND, BY_PRICE, file=3)]),
    )
)
"""Three of its steps are one rewrite of orders."""

REWRITE = tuple(Version(f"1.{minor}") for minor in (2, 3, 4))
SIZES = {TABLE: ONLINE_BYTES, "items": 1}
NOTE, BUILT = Key("column", TABLE, "note"), Key("column", TABLE, "kind")
TOUCHED = {NOTE, BUILT, Key("column", TABLE, "year"), Key("order", "", TABLE), *BY_KIND}
ADDED = {key: text for key, text in NEW.items() if key in TOUCHED and key.kind == "column"}


def test_a_large_table_is_rewritten_online() -> None:
    """The steps that rewrite it are one rewrite, and its shape keeps in mind how the live table differs."""
    live = Snapshot(OLD | ITEMS | {NOTE: "text DEFAULT 'none'"})
    found = SHOP.planned(live=live, sizes=SIZES)
    assert [each.online for each in found.steps] == [False, True, True, True, False]
    assert found.online == Online(
        table=TABLE,
        size=ONLINE_BYTES,
        rewrites=2,
        versions=REWRITE,
        shape=TargetShape(
            table=TABLE,
            gone=("note",),
            added=(("kind", "text"), ("year", "int")),
            indexes=(("by_kind", "CREATE INDEX by_kind ON orders USING btree (kind)"),),
            checks=(),
            touched=frozenset(TOUCHED),
            start=Snapshot({NOTE: "text DEFAULT 'none'"}),
            end=Snapshot(ADDED | BY_KIND),
        ),
    )


@pytest.mark.parametrize(
    ("size", "rewrite", "declined"),
    [
        (ONLINE_BYTES, None, ""),
        (ONLINE_BYTES - 1, None, "its 63 MB are less than 64 MB"),
        (0, None, "its 0 MB are less than 64 MB"),
        (0, "online", ""),
        (ONLINE_BYTES, "in-place", "--rewrite in-place is set"),
        (0, "in-place", "--rewrite in-place is set"),
    ],
)
def test_the_size_or_the_operator_decides(
    size: int, rewrite: Literal["online", "in-place"] | None, declined: str
) -> None:
    """From 64 MB on a rewrite is online; a declined one runs in place, and nothing blocks it."""
    wish = PlanOptions(rewrite=rewrite)
    blockers = ["it is unusual"] if declined else []
    found = SHOP.planned(sizes={TABLE: size}, options=wish, blockers=blockers)
    assert found.online is not None
    assert (found.online.size, found.online.versions) == (size, REWRITE)
    assert (found.online.declined, found.online.blockers) == (declined, ())
    assert (found.online.shape is None) == (declined != "")
    assert [each.online for each in found.steps] == [not declined and number in (1, 2, 3) for number in range(5)]


BLOCKED: Mapping[str, tuple[Mapping[Key, str], list[str], bool, tuple[str, ...]]] = {
    "the table": (OLD, ["it is unusual", "it is odd"], False, ("it is unusual", "it is odd")),
    "a column that is there": (KIND, [], False, ('it already has part of the new version: "kind"',)),
    "the executor": (OLD, [], True, ("the executor is sql-tool",)),
    "all of them": (
        KIND,
        ["it is unusual"],
        True,
        ("it is unusual", 'it already has part of the new version: "kind"', "the executor is sql-tool"),
    ),
}


@pytest.mark.parametrize(("live", "blockers", "by_tool", "expected"), BLOCKED.values(), ids=BLOCKED)
def test_what_blocks_an_online_rewrite(
    live: Mapping[Key, str],
    blockers: list[str],
    by_tool: bool,  # noqa: FBT001
    expected: tuple[str, ...],
) -> None:
    """Each reason is named, and no step is online."""
    options = PlanOptions(by_tool=by_tool)
    found = SHOP.planned(live=Snapshot({**live, **ITEMS}), sizes=SIZES, blockers=blockers, options=options)
    assert found.online == Online(
        table=TABLE, size=ONLINE_BYTES, rewrites=2, versions=REWRITE, shape=None, blockers=expected
    )
    assert not any(each.online for each in found.steps)


@pytest.mark.parametrize("version", ["0.0", "1.2", "1.5"])
def test_without_a_rewrite_nothing_is_online(version: str) -> None:
    """Nor is anything in a new store, or where nothing is to do."""
    start = Version(version)
    state: State = Absent() if version == "0.0" else at(version)
    found = SHOP.planned(state, live=SHOP.rehearsal.after[start], sizes=SIZES)
    assert (found.online, any(each.online for each in found.steps)) == (None, False)


def test_a_table_of_unknown_size_is_not_rewritten_online() -> None:
    """Without its size nothing can be decided."""
    assert SHOP.planned(sizes={"items": ONLINE_BYTES}).online is None


def begun(*remaining: int) -> Between:
    """Return the state in the middle of step 1.2, which adds two columns."""
    return Between(version=Version("1.1"), step=Version("1.2"), total=2, remaining=remaining)


def test_a_begun_rewrite_goes_on_online() -> None:
    """Only what remains of its first step counts."""
    found = SHOP.planned(begun(1), live=Snapshot(KIND | PRICE), sizes=SIZES)
    assert found.online is not None
    assert (found.online.rewrites, found.online.versions, found.online.blockers) == (1, REWRITE, ())
    assert found.online.shape is not None
    assert found.online.shape.added == (("year", "int"),)
    assert [each.online for each in found.steps] == [True, True, True, False]


@pytest.mark.parametrize(("remaining", "blockers"), [((0,), True), ((0, 1), False), ((1,), False)])
def test_a_rewrite_that_was_begun_out_of_order_is_blocked(remaining: tuple[int, ...], *, blockers: bool) -> None:
    """A table that is like at no point of its rehearsal cannot be rewritten online."""
    live = {(0,): YEAR_ALONE, (0, 1): OLD, (1,): KIND}[remaining]
    found = SHOP.planned(begun(*remaining), live=Snapshot(live | PRICE), sizes=SIZES)
    assert found.online is not None
    said = "the state of step 1.2, half-applied out of order"
    assert found.online.blockers == ((said,) if blockers else ())


def test_a_rewrite_that_was_begun_by_hand_is_blocked() -> None:
    """Somebody has applied a later statement of a step: what is there would be there twice."""
    found = SHOP.planned(at("1.1"), live=Snapshot(YEAR_ALONE | PRICE), sizes=SIZES)
    assert found.online is not None
    assert found.online.blockers == ('it already has part of the new version: "year"',)


def test_a_step_that_is_done_but_not_recorded_is_left_out() -> None:
    """Nothing of it remains to be rewritten, whatever comes later."""
    found = SHOP.planned(begun(), live=Snapshot(SHOP.rehearsal.after[Version("1.2")].objects), sizes=SIZES)
    assert found.online is None or Version("1.2") not in found.online.versions
    assert found.steps[0].statements == ()
    assert (str(found.steps[0].step.version), found.steps[0].online) == ("1.2", False)


def test_a_column_keeps_what_was_changed_by_hand() -> None:
    """A column that the steps change and change back is expected as it is, before and after them."""
    day = Key("column", TABLE, "day")
    changes = [KIND, KIND | {day: "date DEFAULT now()"}, KIND]
    texts = ("ALTER TABLE orders ADD kind text", "ALTER TABLE orders ALTER day", "ALTER TABLE orders ALTER day DROP")
    shop = Shop(
        told=(
            (step("1.0", "CREATE TABLE orders ()"), [moment(OLD)]),
            (step("1.1", *texts), [moment(each, file=2) for each in changes]),
        )
    )
    found = shop.planned(live=Snapshot(OLD | {day: "date NOT NULL"}), sizes=SIZES).online
    assert found is not None
    assert found.shape is not None
    assert (found.shape.start.objects[day], found.shape.end.objects[day]) == ("date NOT NULL", "date NOT NULL")

"""The state of a store as its tables show it, whatever its version row says."""

import pytest
from packaging.version import Version

from schema_migrator.catalog.seed_row import Seed
from schema_migrator.catalog.snapshot import Snapshot
from schema_migrator.diagnosis.recognition import recognise
from schema_migrator.diagnosis.state import Absent, At, Between, State, Unknown, Unrecorded
from support.program.rehearsed import Past
from support.program.tiny_rehearsals import (
    ADD_NOTE,
    DROP_BY_TOTAL,
    INDEX_NOTE,
    INDEX_TOTAL,
    NEW_ITEMS,
    NEW_ORDERS,
    SEED,
    SEEDED,
    SHOP,
    WIDER_TOTAL,
    Act,
    Effect,
    at_version,
    during,
    evidence,
    past,
    schema,
)

UNSEEDED = Seed(version=None)
STRANGE = Unknown(reason="it is strange", hint="look at it", refinable=True)
FILL = Act("UPDATE orders SET total = 0")
HASHED = Act("CREATE INDEX by_note ON orders USING hash (note)", {"index orders.by_note": "hash (note)"})
OTHER = past((NEW_ORDERS, INDEX_TOTAL, SEED), (ADD_NOTE, HASHED), (), (DROP_BY_TOTAL,), (WIDER_TOTAL,), release="9.0.0")
LONGER = past((NEW_ORDERS, INDEX_TOTAL, SEED), (ADD_NOTE, HASHED), (), (DROP_BY_TOTAL,), (), release="9.2.0")
LARGER = past(
    (NEW_ORDERS, INDEX_TOTAL, SEED),
    (ADD_NOTE, INDEX_NOTE, WIDER_TOTAL),
    (),
    (Act("CREATE INDEX old ON orders (id)", {"index orders.old": "btree (id)"}),),
    release="9.0.1",
)
TWO = {"column orders.a": "integer", "column orders.b": "integer"}
FILLING = past((NEW_ORDERS, INDEX_TOTAL, SEED), (ADD_NOTE, HASHED, FILL), release="9.0.0")


def at(version: str, lowest: str = "1.0", release: str | None = None) -> At:
    """Return the state of a recorded version."""
    return At(version=Version(version), min_compatible=Version(lowest), release=release)


def between(recorded: str | None, step: str, total: int, *remaining: int) -> Between:
    """Return the state of a step that was begun."""
    version = Version(recorded) if recorded else None
    return Between(version=version, step=Version(step), total=total, remaining=remaining)


def unrecorded(version: str, recorded: str | None, *, confirmed: bool) -> Unrecorded:
    """Return the state of a version that the row does not tell."""
    known = Version(recorded) if recorded else None
    return Unrecorded(version=Version(version), recorded=known, confirmed=confirmed)


@pytest.mark.parametrize(
    ("live", "recorded", "seed", "expected"),
    [
        (Snapshot({}), "0.0", UNSEEDED, at("0.0")),
        (during("1.0", 1), None, UNSEEDED, between(None, "1.0", 3, 1, 2)),
        (during("1.0", 1), "0.0", UNSEEDED, between("0.0", "1.0", 3, 1, 2)),
        (during("1.0", 2), "0.0", UNSEEDED, between("0.0", "1.0", 3, 2)),
        (during("1.0", 3), "0.0", SEEDED, between("0.0", "1.0", 3)),
        (during("1.0", 1), "0.0", SEEDED, between("0.0", "1.0", 3, 1)),
        (Snapshot({}), "0.0", SEEDED, between("0.0", "1.0", 3, 0, 1)),
        (at_version("1.0"), "1.0", SEEDED, at("1.0")),
        (during("1.1", 1), "1.0", SEEDED, between("1.0", "1.1", 3, 1, 2)),
        (during("1.1", 2), "1.0", Seed(version=5), between("1.0", "1.1", 3, 2)),
        (at_version("1.1"), "1.0", SEEDED, between("1.0", "1.1", 3)),
        (at_version("1.1"), "1.1", SEEDED, at("1.1")),
        (at_version("1.1"), "1.2", SEEDED, at("1.2")),
        (during("1.3", 1), "1.1", SEEDED, between("1.1", "1.3", 2, 1)),
        (at_version("1.3"), "1.3", SEEDED, at("1.3")),
        (during("1.1", 1, {"index orders.by_total": None}), "1.0", SEEDED, between("1.0", "1.1", 3, 1, 2)),
        (during("1.1", 1, {"order orders": "note, id, total"}), "1.0", SEEDED, between("1.0", "1.1", 3, 1, 2)),
        (at_version("1.3", {"order orders": "note, id, total"}), "1.3", SEEDED, at("1.3")),
        (at_version("1.3", {"index orders.own": "btree (id)"}), "1.3", SEEDED, at("1.3")),
    ],
)
def test_the_recorded_version_or_how_far_the_next_step_came(
    live: Snapshot, recorded: str | None, seed: Seed, expected: State
) -> None:
    """The statements that remain, the seed's INSERT if its row is missing; changes beside the step do not count."""
    assert recognise(evidence(live, recorded, seed=seed)) == expected


@pytest.mark.parametrize(
    ("changes", "remaining"), [(WIDER_TOTAL.effect, (0, 1)), (INDEX_NOTE.effect, (0, 2)), (ADD_NOTE.effect, (1, 2))]
)
def test_statements_out_of_order(changes: Effect, remaining: tuple[int, ...]) -> None:
    """Whichever of a step's statements ran, the others remain."""
    assert recognise(evidence(at_version("1.0", changes), "1.0")) == between("1.0", "1.1", 3, *remaining)


STAGES = past(
    (NEW_ORDERS,),
    (
        Act("ALTER TABLE orders ADD COLUMN shop SMALLINT", {"column orders.shop": "smallint"}),
        ADD_NOTE,
        Act("ALTER TABLE orders ALTER COLUMN shop TYPE INT", {"column orders.shop": "integer"}),
        Act("ALTER TABLE orders ALTER COLUMN shop TYPE BIGINT", {"column orders.shop": "bigint"}),
    ),
)


@pytest.mark.parametrize(
    ("live", "remaining"),
    [
        (at_version("1.0", {"column orders.shop": "bigint"}, store=STAGES), 1),
        (during("1.1", 3, {"order orders": "total, id"}, store=STAGES), 3),
    ],
)
def test_a_column_that_a_step_changes_again(live: Snapshot, remaining: int) -> None:
    """A step resumes where the column is at an intermediate type; statements before the last type do not run again."""
    assert recognise(evidence(live, "1.0", store=STAGES)) == between("1.0", "1.1", 4, remaining)


TWO_AT_ONCE = past((NEW_ORDERS,), (Act("ALTER TABLE orders ADD a INT, ADD b INT", TWO), FILL), (NEW_ITEMS,))


@pytest.mark.parametrize(
    ("store", "changes"),
    [
        (SHOP, {"column orders.total": "bigint", "table items": ""}),
        (SHOP, {"column orders.total": "text"}),
        (TWO_AT_ONCE, {"column orders.b": "integer"}),
    ],
)
def test_statements_that_cannot_run(store: Past, changes: Effect) -> None:
    """A state is unknown if what a later step creates exists, or if the rest would fail."""
    found = recognise(evidence(at_version("1.0", changes, store=store), "1.0", store=store))
    assert isinstance(found, Unknown)
    assert found.recorded == Version("1.0")


@pytest.mark.parametrize(
    ("version", "recorded", "rows", "history", "confirmed"),
    [
        ("1.3", "1.0", [], [], False),
        ("1.3", "1.0", ["1.3"], [], False),
        ("1.3", "1.0", [], ["1.1"], False),
        ("1.3", "1.0", [], ["1.1", "1.3"], True),
        ("1.1", "1.3", [], ["1.1"], False),
        ("1.0", "1.1", [], ["1.0"], False),
        ("1.3", None, [], ["1.3"], False),
        ("1.3", None, ["1.1", None], [], False),
        ("1.3", None, [None, "1.1", "1.3"], [], True),
        ("1.3", "0.0", ["1.3"], [], True),
    ],
)
def test_another_version_than_the_recorded_one(
    version: str, recorded: str | None, rows: list[str | None], history: list[str], *, confirmed: bool
) -> None:
    """Another row confirms it where none is recorded, the history where the row was put back from it."""
    given = [(row, "1.0") for row in rows]
    found = recognise(evidence(at_version(version), recorded, *given, history=history))
    assert found == unrecorded(version, recorded, confirmed=confirmed)


def test_one_object_can_tell_that_a_version_is_wrong() -> None:
    """A version row is not believed if the tables equal another version, even if it is one index."""
    store = past((NEW_ORDERS,), (INDEX_TOTAL,), (NEW_ITEMS,))
    found = recognise(evidence(at_version("1.0", store=store), "1.1", store=store))
    assert found == unrecorded("1.0", "1.1", confirmed=False)


def test_a_missing_table_counts_with_all_its_parts() -> None:
    """A recorded version is not believed without a table that the next step changes."""
    store = past((NEW_ORDERS, INDEX_TOTAL, NEW_ITEMS), (ADD_NOTE, INDEX_NOTE))
    found = recognise(evidence(schema(NEW_ITEMS.effect), "1.0", store=store))
    assert isinstance(found, Unknown)
    assert found.reason.endswith("the closest is 1.1, apart from: table orders")


@pytest.mark.parametrize(
    ("store", "version", "recorded", "expected"),
    [
        (OTHER, "1.3", "1.3", at("1.3", release="9.0.0")),
        (OTHER, "1.1", "1.0", unrecorded("1.1", "1.0", confirmed=True)),
        (FILLING, "1.1", "1.0", unrecorded("1.1", "1.0", confirmed=False)),
        (OTHER, "1.3", "1.0", unrecorded("1.3", "1.0", confirmed=False)),
        (OTHER, "1.3", "1.1", unrecorded("1.3", "1.1", confirmed=True)),
        (OTHER, "1.3", "1.2", unrecorded("1.3", "1.2", confirmed=True)),
        (OTHER, "1.3", None, unrecorded("1.3", None, confirmed=False)),
        (LONGER, "1.3", "1.4", unrecorded("1.3", "1.4", confirmed=False)),
        (LARGER, "1.3", None, unrecorded("1.3", None, confirmed=False)),
    ],
)
def test_a_version_of_another_release(store: Past, version: str, recorded: str | None, expected: State) -> None:
    """It is confirmed if it is the step after the recorded version, and that step changes no rows."""
    live = at_version(version, store=store)
    assert recognise(evidence(live, recorded), [LARGER.rehearsal, store.rehearsal]) == expected


def test_a_version_that_only_another_release_has() -> None:
    """It cannot be the state of a store of this release."""
    found = recognise(evidence(at_version("1.4", store=OTHER), "1.3"), [OTHER.rehearsal])
    assert isinstance(found, Unknown)


@pytest.mark.parametrize(
    ("live", "recorded", "needed"),
    [
        (at_version("1.3"), "1.3", False),
        (at_version("1.3", {"index orders.old": "btree (id)"}), "1.3", False),
        (during("1.1", 1), "1.0", False),
        (at_version("1.3"), "1.0", True),
        (at_version("1.3", store=OTHER), "1.3", True),
    ],
)
def test_other_releases_are_rehearsed_only_if_needed(live: Snapshot, recorded: str, *, needed: bool) -> None:
    """They are not if the recorded version explains the tables."""
    others = iter([OTHER.rehearsal])
    recognise(evidence(live, recorded), others)
    assert list(others) == ([] if needed else [OTHER.rehearsal])


OLD_INDEX = {"index orders.old": "btree (id)"}
SWAPPED = {"order orders": "note, total, id"}


@pytest.mark.parametrize("order", [{}, SWAPPED], ids=["in order", "in another order"])
def test_an_object_of_another_release_is_no_extra(order: Effect) -> None:
    """Tables of this release with an index that only another one has match no version, in any order of columns."""
    assert isinstance(recognise(evidence(at_version("1.3", order), None), [LARGER.rehearsal]), Unrecorded)
    found = recognise(evidence(at_version("1.3", {**OLD_INDEX, **order}), None), [LARGER.rehearsal])
    assert isinstance(found, Unknown)


def test_a_version_of_another_release_in_another_order() -> None:
    """The order of columns matters to no release."""
    found = recognise(evidence(at_version("1.3", SWAPPED, store=OTHER), "1.3"), [OTHER.rehearsal])
    assert found == at("1.3", release="9.0.0")


@pytest.mark.parametrize(
    ("rows", "lowest"), [([("1.0", "0.1"), (None, "0.2"), ("1.1", "0.3")], "0.3"), ([("1.1", None)], "0.0")]
)
def test_a_version_row_that_was_doubted(rows: list[tuple[str | None, str | None]], lowest: str) -> None:
    """If the tables are as it says, its least compatible version is the one that it records."""
    found = recognise(evidence(at_version("1.1"), "1.1", *rows, state=STRANGE))
    assert found == at("1.1", lowest)


@pytest.mark.parametrize("state", [Absent(), STRANGE])
def test_a_store_without_row_and_tables(state: State) -> None:
    """It is absent."""
    assert recognise(evidence(Snapshot({}), None, state=state, seed=UNSEEDED)) == Absent()


def test_an_empty_step_at_the_end() -> None:
    """A recorded version that has the tables of the one before it is no other version."""
    store = past((NEW_ORDERS,), (ADD_NOTE,), ())
    assert recognise(evidence(at_version("1.1", store=store), "1.2", store=store)) == at("1.2")


def test_a_version_that_no_release_has() -> None:
    """The tables alone tell the version then."""
    assert recognise(evidence(at_version("1.0"), "0.5", state=STRANGE)) == unrecorded("1.0", "0.5", confirmed=False)


def test_the_tables_of_a_cluster_in_use() -> None:
    """Without a recorded version they are no installation that has just begun, but they may be complete."""
    used = Seed(version=5)
    assert isinstance(recognise(evidence(during("1.0", 1), None, seed=used, state=STRANGE)), Unknown)
    complete = recognise(evidence(at_version("1.0"), None, seed=used, state=STRANGE))
    assert complete == unrecorded("1.0", None, confirmed=False)

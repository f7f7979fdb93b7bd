"""Plans with a rehearsal: the locks of each step, how its statements run, and what else the plan takes over."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from packaging.version import Version

from schema_migrator.catalog.leftovers import Leftover
from schema_migrator.catalog.owners import Ownership
from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.diagnosis import prediction
from schema_migrator.diagnosis.prediction import Problem
from schema_migrator.diagnosis.state import Absent, Between, State, Unrecorded
from schema_migrator.errors import UnknownState
from schema_migrator.planning.plan import SMALL_TABLE_BYTES, PlannedStep, PlanOptions, TableLock
from schema_migrator.releases.source import Store
from support.program.factories import at, facts
from support.program.tiny_plans import TABLE, Moment, Shop, constraint, index, moment, step, table

OLD, ITEMS = table("id bigint, day date, note text"), table("id bigint", "items")
KIND, PRICE = table("id bigint, day date, note text, kind text"), table("id bigint, price int", "items")
BY_DAY, BY_NOTE, BY_KIND = index("by_day", "day"), index("by_note", "note"), index("by_kind", "kind")
FIRST = (step("1.0", "CREATE TABLE orders ()", "CREATE TABLE items ()"), [moment(OLD), moment(OLD, ITEMS)])
ADD_KIND = "ALTER TABLE orders ADD COLUMN kind text"
BUILD = "CREATE INDEX CONCURRENTLY by_day ON orders (day)"
BUILD_KIND = "CREATE INDEX by_kind ON orders (kind)"
DELETE = "DELETE FROM orders"
INDEXED = moment(OLD, ITEMS, BY_DAY)
TWO_STEPS = Shop(
    told=(
        FIRST,
        (
            step("1.1", ADD_KIND, BUILD_KIND),
            [moment(KIND, ITEMS, file=2), moment(KIND, ITEMS, BY_KIND, file=2)],
        ),
        (step("1.2", "ALTER TABLE orders DROP COLUMN kind"), [moment(OLD, ITEMS, file=2)]),
    )
)


def one_step(*changes: tuple[str, Moment]) -> Shop:
    """Return a store whose version 1.1 has these statements, each with the schema after it."""
    made = step("1.1", *(text for text, _ in changes))
    return Shop(told=(FIRST, (made, [after for _, after in changes])))


def test_a_step_knows_what_it_will_do() -> None:
    """It has its statements, locks, rewritten tables, and the prediction with which it is compared."""
    found = TWO_STEPS.planned(sizes={TABLE: 3, "items": 5})
    first, second = TWO_STEPS.steps[1:]
    live = TWO_STEPS.rehearsal.after[Version("1.0")]
    seen = prediction.predict(TWO_STEPS.rehearsal, [first, second], live)
    lock = TableLock(table=TABLE, mode="ACCESS EXCLUSIVE", size=3)
    assert found.steps == (
        PlannedStep(
            step=first,
            previous=Version("1.0"),
            statements=first.statements,
            locks=(lock,),
            rewrites=(TABLE,),
            proof=seen[0].proof,
        ),
        PlannedStep(
            step=second, previous=Version("1.1"), statements=second.statements, locks=(lock,), proof=seen[1].proof
        ),
    )
    assert found.problems == ()


LOCKS: Mapping[str, tuple[Shop, Snapshot | None, list[tuple[str, str, int]]]] = {
    "an index": (one_step((BUILD, INDEXED)), None, [(TABLE, "SHARE", 7)]),
    "two tables": (
        one_step((BUILD, INDEXED), ("ALTER TABLE items", moment(OLD, PRICE, BY_DAY))),
        None,
        [("items", "ACCESS EXCLUSIVE", 0), (TABLE, "SHARE", 7)],
    ),
    "a new table": (one_step(("CREATE TABLE bills ()", moment(OLD, ITEMS, table("id int", "bills")))), None, []),
    "a table that is missing": (
        one_step((BUILD, INDEXED), ("ALTER TABLE items", moment(OLD, PRICE, BY_DAY))),
        Snapshot(OLD),
        [(TABLE, "SHARE", 7)],
    ),
}


@pytest.mark.parametrize(("shop", "live", "expected"), LOCKS.values(), ids=LOCKS)
def test_existing_tables_are_locked(shop: Shop, live: Snapshot | None, expected: list[tuple[str, str, int]]) -> None:
    """A step locks the tables that are there and that it changes; a table of unknown size counts as empty."""
    (found,) = shop.planned(live=live, sizes={TABLE: 7}).steps
    assert [(lock.table, lock.mode, lock.size) for lock in found.locks] == expected


def test_rewritten_tables_are_named() -> None:
    """They come in the order of their names, without a table that the step creates and then rewrites."""
    bills = table("id int", "bills")
    shop = one_step(
        ("CREATE TABLE bills ()", moment(OLD, ITEMS, bills)),
        ("DO $$ $$", replace(moment(KIND, PRICE, bills), files={TABLE: 2, "items": 3, "bills": 4})),
    )
    assert shop.planned().steps[0].rewrites == ("items", TABLE)


LARGE = SMALL_TABLE_BYTES + 1
MOOD = moment(OLD, ITEMS, {Key("type", "", "mood"): "AS ENUM ('good')"})
ALONE: Mapping[str, tuple[Shop, int, bool]] = {
    "an index of a large table": (one_step((BUILD, INDEXED)), LARGE, True),
    "an index of a small table": (one_step((BUILD, INDEXED)), SMALL_TABLE_BYTES, False),
    "an ordinary index": (one_step(("CREATE INDEX by_day ON orders (day)", INDEXED)), LARGE, False),
    "an enum's value": (one_step(("ALTER TYPE mood ADD VALUE 'good'", MOOD)), 0, True),
    "beside a change of rows": (one_step((BUILD, INDEXED), (DELETE, INDEXED)), LARGE, False),
    "beside a change that may be repeated": (
        one_step((BUILD, INDEXED), ("UPDATE orders SET note = ''", INDEXED)),
        LARGE,
        True,
    ),
}


@pytest.mark.parametrize(("shop", "size", "expected"), ALONE.values(), ids=ALONE)
def test_statements_that_run_on_their_own(shop: Shop, size: int, *, expected: bool) -> None:
    """An index of a large table is built concurrently, unless the step could not go on after a kill in between."""
    (found,) = shop.planned(sizes={TABLE: size}).steps
    assert found.concurrently == expected


def begun(*remaining: int, total: int = 2) -> Between:
    """Return the state in the middle of step 1.1."""
    return Between(version=Version("1.0"), step=Version("1.1"), total=total, remaining=remaining)


def test_a_begun_step_is_resumed() -> None:
    """The rest of it runs, and later steps run as a whole."""
    live = TWO_STEPS.rehearsal.within[Version("1.1")][1]
    first, second = TWO_STEPS.planned(begun(1), live=live).steps
    assert (first.resumed, [statement.text for statement in first.statements]) == (True, [BUILD_KIND])
    assert (second.resumed, len(second.statements)) == (False, 1)


def test_a_change_of_rows_that_has_run_does_not_run_again() -> None:
    """What has run is known from the state, also where no snapshot shows it."""
    shop = one_step(("UPDATE orders SET note = ''", moment(OLD, ITEMS)), (BUILD, INDEXED))
    assert [statement.text for statement in shop.planned(begun(1)).steps[0].statements] == [BUILD]


def test_a_step_that_is_done_by_hand_in_part_is_resumed() -> None:
    """What somebody has already changed is left out."""
    shop = one_step((BUILD, INDEXED), (ADD_KIND, moment(KIND, ITEMS, BY_DAY)))
    (found,) = shop.planned(live=INDEXED.snapshot).steps
    assert (found.resumed, [statement.text for statement in found.statements]) == (True, [ADD_KIND])


REPEATED = one_step(("DELETE FROM orders WHERE id = 1", moment(OLD, ITEMS)), (BUILD, INDEXED))


def test_rows_are_not_changed_twice() -> None:
    """A begun step is refused if a statement that must not run twice may have run."""
    with pytest.raises(UnknownState) as caught:
        REPEATED.planned(begun(0, 1))
    assert str(caught.value) == (
        'visibility: database "shop": step 1.1 was interrupted, and its tables do not show whether'
        " visibility/v1.1/f.sql:1 (DELETE FROM orders WHERE id = 1) has run, which must not change rows twice;"
        " find out from the rows whether it has run, and run by hand what is missing of the step's files; then"
        " set curr_version in schema_version to 1.1"
    )


def test_a_step_that_was_not_begun_may_change_rows() -> None:
    """The same statement runs in a step of which nothing has run, and where it is known not to have run."""
    assert len(REPEATED.planned().steps[0].statements) == 2
    later = one_step((BUILD, INDEXED), ("DROP INDEX by_day", moment(OLD, ITEMS)), (DELETE, moment(OLD, ITEMS)))
    assert len(later.planned(begun(1, 2, total=3), live=INDEXED.snapshot).steps[0].statements) == 2


@pytest.mark.parametrize("state", [Absent(), at("0.0")])
def test_a_store_that_is_not_in_use_needs_no_locks(state: State) -> None:
    """Its steps are neither compared nor locked, and have no problems, whatever the live schema is."""
    found = TWO_STEPS.planned(state, live=Snapshot(KIND), sizes={TABLE: LARGE}, facts=facts(invalid=["by_day"]))
    assert {(step.locks, step.proof, step.resumed) for step in found.steps} == {((), None, False)}
    assert (found.together, found.problems, found.online, found.rebuild) == (True, (), None, ())


def test_the_vendors_tool_runs_steps_one_by_one() -> None:
    """With it, not even the steps of a new store share a transaction."""
    found = TWO_STEPS.planned(Absent(), options=PlanOptions(by_tool=True))
    assert (found.together, found.by_tool) == (False, True)
    assert not TWO_STEPS.planned(Absent()).by_tool


@pytest.mark.parametrize(("version", "expected"), [("1.0", ("by_day",)), ("1.1", ("by_day",)), ("1.2", ())])
def test_invalid_indexes_are_rebuilt(version: str, expected: tuple[str, ...]) -> None:
    """They are rebuilt unless the store is newer than its target, which is 1.1."""
    live = TWO_STEPS.rehearsal.after[Version(version)]
    found = TWO_STEPS.planned(at(version), "1.1", live=live, facts=facts(invalid=["by_day"]))
    assert found.rebuild == expected
    assert found.empty == (version == "1.2")


def test_an_index_beside_another_is_dropped() -> None:
    """PostgreSQL's names tell what an interrupted rebuild has left."""
    found = TWO_STEPS.planned(facts=facts(invalid=["by_day", "by_day_ccnew", "by_note_ccold1"]))
    assert found.dropped == ("by_day_ccnew", "by_note_ccold1")


@pytest.mark.parametrize(("may_give", "heir"), [(True, "app"), (False, "")])
def test_new_objects_get_the_owner_of_the_others(*, may_give: bool, heir: str) -> None:
    """The role that owns the tables gets new ones too if ours can give them away."""
    assert TWO_STEPS.planned(whose=Ownership(heir="app", may_give=may_give)).heir == heir


def test_a_plan_is_of_one_database() -> None:
    """It names the store and the database, and what earlier online rewrites have left there."""
    left = Leftover(
        name="old", oid=1, schema="public", table=TABLE, target="1.1", fingerprint="", kept=True, finished=True
    )
    found = TWO_STEPS.planned(whose=Ownership(leftovers=(left,)))
    assert (found.store, found.database, found.leftovers) == (Store.VISIBILITY, "shop", (left,))


@pytest.mark.parametrize(("schema", "expected"), [("store", "store"), (None, "")])
def test_the_schema_is_the_one_that_was_found(schema: str | None, expected: str) -> None:
    """Without one there is no name."""
    assert TWO_STEPS.planned(facts=facts(schema=schema)).schema == expected


def test_what_temporal_will_lack_is_a_problem() -> None:
    """The expected schema is that of the last pending step."""
    lacking = Snapshot({key: text for key, text in (OLD | ITEMS).items() if key.name != "day"})
    remedy = "repair it first: schema-migrator verify shows the SQL"
    said = "the column orders.day is missing and Temporal cannot work without it"
    assert TWO_STEPS.planned(live=lacking).problems == (Problem(found=said, remedy=remedy),)
    assert TWO_STEPS.planned(at("1.2"), live=lacking).problems == (Problem(found=said, remedy=remedy),)


def test_an_unrecorded_version_is_planned_with_its_rehearsal() -> None:
    """The step of the version that is adopted comes from the files; the steps after it are compared."""
    state = Unrecorded(version=Version("1.1"), recorded=Version("1.0"), confirmed=True)
    found = TWO_STEPS.planned(state)
    assert (found.adopt, found.recorded) == (TWO_STEPS.steps[1], Version("1.0"))
    assert [step.proof is not None for step in found.steps] == [True]


def test_keys_are_no_problem_under_another_name() -> None:
    """A primary key may have any name."""
    primary = constraint("orders_pkey", "PRIMARY KEY (id)")
    shop = Shop(told=((FIRST[0], [moment(OLD, primary), moment(OLD, ITEMS, primary)]),))
    assert shop.planned(live=Snapshot(OLD | ITEMS | constraint("own", "PRIMARY KEY (id)"))).problems == ()

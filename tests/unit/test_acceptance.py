"""Which differences are accepted, which entries are named because they accept nothing, and what no step may undo."""

from dataclasses import replace
from datetime import date

import pytest
from packaging.version import Version

from schema_migrator.catalog import seed_row, snapshot
from schema_migrator.catalog.snapshot import INVALID, Change, Difference, Snapshot
from schema_migrator.config.accepted import Accept, AcceptedDifference
from schema_migrator.diagnosis import acceptance, prediction, recognition
from schema_migrator.diagnosis.acceptance import Acceptance, AcceptedChange, Compared, Judged
from schema_migrator.diagnosis.state import At, Unknown, Unrecorded
from schema_migrator.releases.source import Store
from support.program.tiny_rehearsals import (
    INDEX_TOTAL,
    NEW_ORDERS,
    SHOP,
    Act,
    Effect,
    at_version,
    edited,
    evidence,
    key,
    past,
)

TODAY = date(2027, 1, 31)
BY_NOTE = "index orders.by_note"
VENDORS = "CREATE INDEX by_note ON orders USING btree (note)"
PARTIAL = f"{VENDORS} WHERE note IS NOT NULL"
SMALLER = f"{VENDORS} WHERE note > 'x'"


def entry(
    accept: str, name: str = BY_NOTE, definition: str | None = None, *, until: date | None = None
) -> AcceptedDifference:
    """Return an entry of the file."""
    return AcceptedDifference(
        store=Store.DEFAULT, object=name, accept=Accept(accept), reason="ours", definition=definition, until=until
    )


def compared(changes: Effect, version: str = "1.1") -> Compared:
    """Return a version and its schema after changes by hand."""
    expected = at_version(version)
    live = edited(expected, changes)
    return Compared(version=Version(version), expected=expected, live=live, difference=snapshot.compare(expected, live))


def judged(changes: Effect, *entries: AcceptedDifference) -> Judged:
    """Return what is accepted of changes by hand."""
    return acceptance.judge(compared(changes), Acceptance(entries=entries, today=TODAY))


def left(found: Judged) -> list[str]:
    """Return the names of what is not accepted."""
    difference = found.difference
    return [str(change.key) for change in (*difference.missing, *difference.different, *difference.extra)]


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({BY_NOTE: None}, entry("missing")),
        ({BY_NOTE: PARTIAL}, entry("different", definition=PARTIAL)),
        ({"index orders.mine": PARTIAL}, entry("extra", "index orders.mine")),
        ({"index orders.mine": PARTIAL}, entry("extra", "index orders.mine", PARTIAL)),
        ({"column orders.total": "bigint DEFAULT 7"}, entry("different", "column orders.total", "bigint DEFAULT 7")),
        ({"table mine": "", "column mine.a": "integer", "order mine": "a"}, entry("extra", "table mine")),
        ({BY_NOTE: None}, entry("missing", until=TODAY)),
    ],
)
def test_each_kind(changes: Effect, given: AcceptedDifference) -> None:
    """What an entry says is accepted and no longer a difference."""
    found = judged(changes, given)
    assert left(found) == []
    assert found.difference.equal
    assert [(each.entry, str(each.change.key)) for each in found.accepted] == [(given, given.object)]
    assert found.unused == ()


@pytest.mark.parametrize(
    ("changes", "given", "why"),
    [
        ({BY_NOTE: PARTIAL}, entry("different", definition=SMALLER), f"has another definition by now: {PARTIAL}"),
        ({BY_NOTE: PARTIAL}, entry("missing"), "the object is different, and the entry accepts that it is missing"),
        ({BY_NOTE: None}, entry("different", definition=PARTIAL), "the object is missing, and the entry accepts that"),
        ({BY_NOTE: None}, entry("missing", until=date(2027, 1, 30)), "it applied until 2027-01-30"),
        ({"column orders.note": None}, entry("missing", "column orders.note"), "Temporal cannot work without the ob"),
        ({"index orders.mine": SMALLER}, entry("extra", "index orders.mine", PARTIAL), "another definition by now"),
        (
            {"constraint orders.orders_pkey": None},
            entry("missing", "constraint orders.orders_pkey"),
            "Temporal cannot work without the object as the version has it",
        ),
        (
            {"constraint orders.orders_pkey": "PRIMARY KEY (total)"},
            entry("different", "constraint orders.orders_pkey", "PRIMARY KEY (total)"),
            "Temporal cannot work without the object as the version has it",
        ),
    ],
)
def test_what_an_entry_does_not_accept(changes: Effect, given: AcceptedDifference, why: str) -> None:
    """It remains a difference, and the entry is named with the reason."""
    found = judged(changes, given)
    assert left(found) == [given.object]
    assert found.accepted == ()
    assert [each.entry for each in found.unused] == [given]
    assert why in found.unused[0].why
    assert found.unused[0].expired == (given.until is not None)


@pytest.mark.parametrize(
    ("name", "why", "absent"),
    [
        (BY_NOTE, "the object is as version 1.1 has it", False),
        ("index orders.by_day", "neither version 1.1 nor the database has the object", True),
        ("column mine.a", 'the whole table "mine" is missing, different or extra', False),
    ],
)
def test_an_entry_without_a_difference(name: str, why: str, *, absent: bool) -> None:
    """It is named with the reason, and accepts nothing."""
    (unused,) = judged({"table mine": "", "column mine.a": "integer", "order mine": "a"}, entry("missing", name)).unused
    assert (unused.why, unused.absent, unused.expired) == (why, absent, False)


def test_others_are_left_as_they_are() -> None:
    """Only the named objects are accepted."""
    found = judged({BY_NOTE: PARTIAL, "index orders.by_total": None, "index orders.mine": PARTIAL}, entry("missing"))
    assert left(found) == ["index orders.by_total", BY_NOTE, "index orders.mine"]


def test_an_invalid_index_is_to_become_what_is_accepted() -> None:
    """So that its repair is to build it again, and not to make it the vendor's."""
    found = judged({BY_NOTE: PARTIAL + INVALID}, entry("different", definition=PARTIAL))
    assert found.difference.different == (Change(key=key(BY_NOTE), expected=PARTIAL, found=PARTIAL + INVALID),)
    assert found.unused[0].why == "the index has the accepted definition, but it is invalid"


def test_the_seed_row_is_needed() -> None:
    """No entry makes up for it."""
    lost = Change(key=seed_row.KEY, expected="notification_version 1", found=None)
    base = compared({})
    difference = Difference(missing=(lost,), different=(), extra=())
    with_row = Compared(version=base.version, expected=base.expected, live=base.live, difference=difference)
    found = acceptance.judge(with_row, Acceptance(entries=(entry("missing", str(lost.key)),), today=TODAY))
    assert found.difference.missing == (lost,)


def kept(name: str, definition: str | None, expected: str | None = VENDORS) -> AcceptedChange:
    """Return an accepted difference of an object."""
    change = Change(key=key(name), expected=expected, found=definition)
    return AcceptedChange(change=change, entry=entry(acceptance.kind(change), name, definition))


def undone(live: Snapshot, accepted: AcceptedChange, *versions: str) -> list[str]:
    """Return what the steps to these versions would undo."""
    steps = [step for _, step in SHOP.steps if str(step.version) in versions]
    predicted = prediction.predict(SHOP.rehearsal, steps, live)
    return [each.said for each in acceptance.undone((accepted,), predicted, SHOP.rehearsal.known)]


def test_a_step_that_leaves_it_alone() -> None:
    """An index that no step touches is kept; that is no problem, however many steps run."""
    changes = {BY_NOTE: PARTIAL}
    assert undone(at_version("1.1", changes), kept(BY_NOTE, PARTIAL), "1.3") == []


def test_a_step_that_drops_it() -> None:
    """It is named with the step and the reason of the entry."""
    name, partial = "index orders.by_total", "CREATE INDEX by_total ON orders USING btree (total) WHERE total > 0"
    found = undone(at_version("1.1", {name: partial}), kept(name, partial), "1.3")
    assert found == [f"step 1.3 drops the {name}, whose definition is accepted: ours"]


def test_a_step_that_creates_it() -> None:
    """An object that an early drop made missing comes back with the step."""
    accepted = kept(BY_NOTE, None)
    assert undone(at_version("1.0"), accepted, "1.1") == [
        f"step 1.1 creates the {BY_NOTE}, whose absence is accepted: ours"
    ]


def test_a_step_that_changes_it() -> None:
    """A column with a default of the user's own keeps the default, but not the definition that is accepted."""
    name = "column orders.total"
    found = undone(at_version("1.0", {name: "integer DEFAULT 7"}), kept(name, "integer DEFAULT 7", "integer"), "1.1")
    assert found == [f"step 1.1 replaces the {name}, whose definition is accepted: ours"]


def test_the_users_own_objects_are_protected_elsewhere() -> None:
    """What the release does not know, `dependents` names, once."""
    accepted = kept("index orders.mine", PARTIAL, None)
    assert undone(at_version("1.1", {"index orders.mine": PARTIAL}), accepted, "1.3") == []


@pytest.mark.parametrize("keep", [True, False])
def test_only_what_is_to_be_kept_refuses(*, keep: bool) -> None:
    """An entry may let a step have its way, which is then only named."""
    change = AcceptedChange(
        change=Change(key=key(BY_NOTE), expected=VENDORS, found=None), entry=replace(entry("missing"), keep=keep)
    )
    steps = prediction.predict(SHOP.rehearsal, [SHOP.steps[1][1]], at_version("1.0"))
    found = acceptance.undone((change,), steps, SHOP.rehearsal.known)
    assert len(found) == 1
    assert [problem.found for problem in acceptance.refusals(found)] == [found[0].said] * keep


def test_a_schema_with_accepted_objects_as_a_version_has_them() -> None:
    """As if nobody had changed them: of the recorded version, or of each in which something is accepted."""
    versions = SHOP.rehearsal.after
    live = at_version(
        "1.1", {BY_NOTE: PARTIAL, "index orders.by_total": None, "table mine": "", "column mine.a": "int"}
    )
    given = (
        entry("different", definition=PARTIAL),
        entry("missing", "index orders.by_total"),
        entry("extra", "table mine"),
    )
    accepted = Acceptance(entries=given, today=TODAY)
    recorded = list(acceptance.restored(versions, Version("1.1"), live, accepted))
    assert recorded == [at_version("1.1")]
    others = list(acceptance.restored(versions, None, live, accepted))
    assert at_version("1.1") in others
    assert len(others) == len(versions) - sum(not taken.objects for taken in versions.values()) + 1
    assert list(acceptance.restored(versions, Version("1.1"), at_version("1.1"), accepted)) == []


def test_recognised_apart_from_what_is_accepted() -> None:
    """A step that drops and creates an index again is not taken for begun; without the entry nothing is guessed."""
    changed = Act("ALTER TABLE orders", {"column orders.note": "text", "index orders.by_total": None})
    again = Act("CREATE INDEX by_total", INDEX_TOTAL.effect)
    shop = past((NEW_ORDERS, INDEX_TOTAL), (changed, again))
    partial = f"{INDEX_TOTAL.effect['index orders.by_total']} WHERE total > 0"
    live = edited(shop.rehearsal.after[Version("1.0")], {"index orders.by_total": partial})
    given = Acceptance(entries=(entry("different", "index orders.by_total", partial),), today=TODAY)
    seen = evidence(live, "1.0", ("1.0", "1.0"), store=shop)
    assert isinstance(recognition.recognise(seen), Unknown)
    assert recognition.recognise(replace(seen, acceptance=given)) == At(
        version=Version("1.0"), min_compatible=Version("1.0")
    )


def test_a_lost_record_is_recognised_apart_from_what_is_accepted() -> None:
    """As of tables that nobody has changed, which `--adopt` records."""
    given = Acceptance(entries=(entry("different", definition=PARTIAL),), today=TODAY)
    lost = evidence(
        at_version("1.1", {BY_NOTE: PARTIAL}), None, state=Unknown(reason="no row", hint="", refinable=True)
    )
    assert isinstance(recognition.recognise(lost), Unknown)
    found = recognition.recognise(replace(lost, acceptance=given))
    assert found == Unrecorded(version=Version("1.1"), recorded=None, confirmed=False)


def proposal(
    changes: Effect, *entries: AcceptedDifference, reason: str = "why"
) -> tuple[list[AcceptedDifference], list[str]]:
    """Return the entries that accept what is there, and the names of what nothing accepts."""
    base = compared(changes)
    found = acceptance.judge(base, Acceptance(entries=entries, today=TODAY))
    made, refused = acceptance.proposed(found, base.vital, Store.DEFAULT, reason)
    return list(made), [str(change.key) for change in refused]


def test_the_entries_for_what_is_there() -> None:
    """With them nothing is left, and a further change is a difference again."""
    changes = {BY_NOTE: PARTIAL, "index orders.by_total": None, "index orders.mine": SMALLER, "table mine": ""}
    made, refused = proposal(changes)
    assert refused == []
    assert {each.object: (each.accept, each.definition, each.reason) for each in made} == {
        "index orders.by_total": ("missing", None, "why"),
        BY_NOTE: ("different", PARTIAL, "why"),
        "index orders.mine": ("extra", SMALLER, "why"),
        "table mine": ("extra", None, "why"),
    }
    assert left(judged(changes, *made)) == []
    assert left(judged(changes | {BY_NOTE: SMALLER}, *made)) == [BY_NOTE]


def test_an_entry_that_applies_keeps_its_words() -> None:
    """Its reason and its date stay; one that accepts nothing is left out, but one that has expired is not renewed."""
    applies = entry("different", definition=PARTIAL, until=TODAY)
    gone, over = (
        entry("missing", "index orders.by_day"),
        entry("missing", "index orders.by_total", until=date(2026, 1, 1)),
    )
    made, _ = proposal({BY_NOTE: PARTIAL, "index orders.by_total": None}, gone, applies, over)
    assert made == [applies, over]


def test_an_entry_for_another_definition_is_replaced() -> None:
    """The definition is the one that is there now; the reason is asked for again."""
    made, _ = proposal({BY_NOTE: SMALLER}, entry("different", definition=PARTIAL), reason="")
    assert [(each.definition, each.reason) for each in made] == [(SMALLER, "")]


def test_what_no_entry_can_accept() -> None:
    """What Temporal needs, and an invalid index, which `migrate` rebuilds."""
    changes = {"column orders.note": None, "index orders.by_total": "CREATE INDEX by_total ON orders" + INVALID}
    made, refused = proposal(changes)
    assert sorted(refused) == ["column orders.note", "index orders.by_total"]
    assert made == []

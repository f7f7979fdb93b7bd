"""Which steps can be one online rewrite of a table, and the table's shape at the end."""

from collections.abc import Mapping, Sequence

import pytest
from packaging.version import Version

from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.planning import rewrite_span
from schema_migrator.planning.rewrite_span import RewriteSpan, TargetShape
from support.program.tiny_plans import TABLE, Moment, Told, constraint, index, moment, rehearsed, step, table

ADD = "ALTER TABLE orders ADD COLUMN"
ITEMS = table("id bigint", "items")
OLD = table("id bigint, day date, note text")
KIND = table("id bigint, day date, note text, kind text")
YEAR = table("id bigint, day date, note text, kind text, year int")
BY_DAY, BY_KIND = index("by_day", "day"), index("by_kind", "kind")
FUNCTION = {Key("function", "", "total()"): "RETURNS int"}
CHECK, UNIQUE = constraint("paid", "CHECK (day IS NOT NULL)"), constraint("paid", "UNIQUE (day)")
Change = tuple[str, Moment]
"""A statement, and the schema after it."""

ADD_KIND = (f"{ADD} kind text", moment(KIND, ITEMS, file=2))
ADD_YEAR = (f"{ADD} year int", moment(YEAR, ITEMS, file=3))
BUILD_INDEX = ("CREATE INDEX by_day ON orders (day)", moment(OLD, ITEMS, BY_DAY))
INDEX_LATER = ("CREATE INDEX by_kind ON orders (kind)", moment(KIND, ITEMS, BY_KIND, file=2))
NEW_ITEM = table("id bigint, price int", "items")
CHANGE_ITEMS = ("ALTER TABLE items ADD COLUMN price int", moment(OLD, NEW_ITEM))
KIND_LATER = (f"{ADD} kind text", moment(KIND, NEW_ITEM, file=2))
ITEMS_LATER = ("ALTER TABLE items ADD COLUMN price int", moment(KIND, NEW_ITEM, file=2))
YEAR_LATER = (f"{ADD} year int", moment(YEAR, NEW_ITEM, file=3))
NEW_FUNCTION = ("DO $$ CREATE FUNCTION total() $$", moment(OLD, ITEMS, FUNCTION))
KIND_BESIDE = (f"{ADD} kind text", moment(KIND, ITEMS, FUNCTION, file=2))
CHANGE_ROWS = ("UPDATE orders SET note = ''", moment(OLD, ITEMS))
Steps = Sequence[Sequence[Change]]


def history(steps: Steps) -> list[Told]:
    """Return steps from 1.1 on with these statements, after 1.0 has created both tables."""
    first = (step("1.0", "CREATE TABLE orders ()", "CREATE TABLE items ()"), [moment(OLD), moment(OLD, ITEMS)])
    return [
        first,
        *(
            (step(f"1.{minor}", *(text for text, _ in each)), [made for _, made in each])
            for minor, each in enumerate(steps, start=1)
        ),
    ]


def span(steps: Steps, done: Mapping[Version, int]) -> tuple[list[str], int, int] | None:
    """Return the versions of the span, its statements that are done, and how often it rewrites orders."""
    told = history(steps)
    found = rewrite_span.rewrite_span(rehearsed(*told), [each for each, _ in told[1:]], done)
    if found is None:
        return None
    assert found.table == TABLE
    return [str(each.version) for each in found.steps], found.done, found.rewrites


SPANS: Mapping[str, tuple[Steps, tuple[list[str], int, int] | None]] = {
    "nothing": ([], None),
    "no statement": ([[]], None),
    "no rewrite": ([[(f"{ADD} kind text", moment(KIND, ITEMS))], []], None),
    "one rewrite": ([[ADD_KIND]], (["1.1"], 0, 1)),
    "two rewrites in a step": ([[ADD_KIND, ADD_YEAR]], (["1.1"], 0, 2)),
    "a rewrite in each step": ([[ADD_KIND], [ADD_YEAR]], (["1.1", "1.2"], 0, 2)),
    "rewritten in the second step": ([[BUILD_INDEX], [ADD_KIND]], (["1.1", "1.2"], 0, 1)),
    "an empty step before": ([[], [ADD_KIND]], (["1.2"], 0, 1)),
    "an empty step between": ([[ADD_KIND], [], [ADD_YEAR]], (["1.1", "1.2", "1.3"], 0, 2)),
    "an empty step after": ([[ADD_KIND], []], (["1.1", "1.2"], 0, 1)),
    "another table before": ([[CHANGE_ITEMS], [KIND_LATER]], (["1.2"], 0, 1)),
    "a function before": ([[NEW_FUNCTION], [KIND_BESIDE]], (["1.2"], 0, 1)),
    "rows before": ([[CHANGE_ROWS], [ADD_KIND]], (["1.2"], 0, 1)),
    "another table between": ([[ADD_KIND], [ITEMS_LATER], [YEAR_LATER]], (["1.1"], 0, 1)),
    "a function in the next step": ([[ADD_KIND], [KIND_BESIDE, ADD_YEAR]], (["1.1"], 0, 1)),
    "rows in the next step": ([[ADD_KIND], [("UPDATE orders", ADD_KIND[1]), ADD_YEAR]], (["1.1"], 0, 1)),
    "two tables in one step": ([[ADD_KIND, ("ALTER TABLE items ADD", moment(KIND, NEW_ITEM, file=2))]], None),
    "a table that becomes unlogged": (
        [[ADD_KIND, ("ALTER TABLE orders", moment(KIND, ITEMS, {Key("table", "", TABLE): "UNLOGGED"}, file=2))]],
        None,
    ),
    "a new table": ([[ADD_KIND, ("DROP INDEX x", moment(KIND, ITEMS, table("id int", "bills"), file=2))]], None),
    "a trigger": ([[ADD_KIND, ("DO $$ $$", moment(KIND, ITEMS, {Key("trigger", TABLE, "log"): ""}, file=2))]], None),
    "an index": ([[ADD_KIND, INDEX_LATER]], (["1.1"], 0, 1)),
    "a unique index": (
        [[ADD_KIND, ("CREATE INDEX one", moment(KIND, ITEMS, index("one", "id", kind="UNIQUE INDEX"), file=2))]],
        None,
    ),
    "an index that was unique": (
        [
            [("CREATE INDEX one", moment(OLD, ITEMS, index("one", "id", kind="UNIQUE INDEX")))],
            [(f"{ADD} kind text", moment(KIND, ITEMS, index("one", "id"), file=2))],
        ],
        None,
    ),
    "a check": ([[ADD_KIND, ("ALTER TABLE orders ADD", moment(KIND, ITEMS, CHECK, file=2))]], (["1.1"], 0, 1)),
    "a unique constraint": ([[ADD_KIND, ("ALTER TABLE orders ADD", moment(KIND, ITEMS, UNIQUE, file=2))]], None),
    "a constraint that becomes a check": (
        [
            [
                ("ALTER TABLE orders ADD", moment(OLD, ITEMS, UNIQUE)),
                ("ALTER TABLE orders", moment(KIND, ITEMS, CHECK, file=2)),
            ]
        ],
        None,
    ),
}


@pytest.mark.parametrize(("steps", "expected"), SPANS.values(), ids=SPANS)
def test_steps_that_are_one_rewrite(steps: Steps, expected: tuple[list[str], int, int] | None) -> None:
    """They follow one another, change columns, plain indexes and checks of one table, and rewrite it at least once."""
    assert span(steps, {}) == expected


BEGUN: Mapping[str, tuple[Steps, int, tuple[list[str], int, int] | None]] = {
    "after a function": ([[NEW_FUNCTION, KIND_BESIDE]], 1, (["1.1"], 1, 1)),
    "before a function": ([[ADD_KIND, NEW_FUNCTION]], 1, None),
    "after a change of rows": ([[CHANGE_ROWS, ADD_KIND]], 1, (["1.1"], 1, 1)),
    "after the first rewrite": ([[ADD_KIND, ADD_YEAR]], 1, (["1.1"], 1, 1)),
    "after the only rewrite": ([[ADD_KIND, INDEX_LATER]], 1, None),
    "before a step with two": (
        [[BUILD_INDEX, ("DROP INDEX by_day", moment(OLD, ITEMS))], [ADD_KIND, ADD_YEAR]],
        1,
        (["1.1", "1.2"], 1, 2),
    ),
}


@pytest.mark.parametrize(("steps", "done", "expected"), BEGUN.values(), ids=BEGUN)
def test_a_step_that_was_begun(steps: Steps, done: int, expected: tuple[list[str], int, int] | None) -> None:
    """Only the statements that still have to run count, of later steps all."""
    assert span(steps, {Version("1.1"): done}) == expected


PRIMARY = constraint("orders_pkey", "PRIMARY KEY (id)")
BY_NOTE = index("by_note", "note")
KINDED = constraint("kinded", "CHECK (kind <> '')")
FULL = moment(OLD, PRIMARY, CHECK, BY_DAY, BY_NOTE)
CHANGED = table("id bigint, day date, kind text, year int")
SHAPED: Steps = [
    [
        (f"{ADD} kind text", moment(KIND, PRIMARY, CHECK, BY_DAY, BY_NOTE, file=2)),
        ("CREATE INDEX by_kind ON orders (kind)", moment(KIND, PRIMARY, CHECK, BY_DAY, BY_NOTE, BY_KIND, file=2)),
    ],
    [
        ("DROP INDEX by_day", moment(KIND, PRIMARY, CHECK, BY_NOTE, BY_KIND, file=2)),
        (f"{ADD} CHECK (kind <> '')", moment(KIND, PRIMARY, CHECK, KINDED, BY_NOTE, BY_KIND, file=2)),
        (f"{ADD} year int", moment(YEAR, PRIMARY, CHECK, KINDED, BY_NOTE, BY_KIND, file=3)),
        ("ALTER TABLE orders DROP COLUMN note", moment(CHANGED, PRIMARY, CHECK, KINDED, BY_KIND, file=3)),
    ],
    [],
]
"""Adds two columns, an index and a check, and drops an index and a column with its index."""


def shape(steps: Steps, live: Snapshot, start: Moment = FULL, done: int = 0) -> TargetShape | str:
    """Return the shape that steps give to a live table; 1.0 has created it as it is at the start."""
    told: list[Told] = [(step("1.0", "CREATE TABLE orders ()"), [start]), *history(steps)[1:]]
    after = tuple(each for each, _ in told[1:])
    found = RewriteSpan(table=TABLE, steps=after, done=done, rewrites=1)
    return rewrite_span.shape(rehearsed(*told), found, live)


def keys(*objects: Mapping[Key, str]) -> frozenset[Key]:
    """Return the keys of all these objects."""
    return frozenset(key for each in objects for key in each)


def picked(made: Mapping[Key, str], *names: str) -> dict[Key, str]:
    """Return the columns with these names."""
    return {key: text for key, text in made.items() if key.kind == "column" and key.name in names}


def test_the_shape_of_a_table() -> None:
    """It has the columns, indexes and checks that the steps leave or add, and the user's own ones."""
    own = index("a_own", "note") | constraint("own", "CHECK (id > 0)")
    invalid = {Key("index", TABLE, "zeal"): "CREATE INDEX zeal ON orders USING btree (id) /* INVALID */"}
    live = moment(
        table("own int, id bigint, day date, note text"), PRIMARY, CHECK, BY_DAY, BY_NOTE, invalid, own, ITEMS,
        index("other", "id", "items"), constraint("other", "CHECK (id > 0)", "items"),
    ).snapshot  # fmt: skip
    assert shape(SHAPED, live) == TargetShape(
        table=TABLE,
        gone=("note",),
        added=(("kind", "text"), ("year", "int")),
        indexes=(
            ("a_own", "CREATE INDEX a_own ON orders USING btree (note)"),
            ("by_kind", "CREATE INDEX by_kind ON orders USING btree (kind)"),
            ("zeal", "CREATE INDEX zeal ON orders USING btree (id)"),
        ),
        checks=(("kinded", "CHECK (kind <> '')"), ("own", "CHECK (id > 0)"), ("paid", "CHECK (day IS NOT NULL)")),
        touched=keys(BY_KIND, BY_DAY, BY_NOTE, KINDED, picked(YEAR, "kind", "year", "note"))
        | {Key("order", "", TABLE)},
        start=Snapshot(BY_DAY | BY_NOTE | picked(OLD, "note")),
        end=Snapshot(BY_KIND | KINDED | picked(YEAR, "kind", "year")),
    )


def test_the_shape_after_a_begun_step() -> None:
    """What the step has already changed is part of the live table; later steps count as a whole."""
    done = moment(KIND, PRIMARY, CHECK, BY_DAY, BY_NOTE, file=2)
    assert shape(SHAPED, done.snapshot, done=1) == TargetShape(
        table=TABLE,
        gone=("note",),
        added=(("year", "int"),),
        indexes=(("by_kind", "CREATE INDEX by_kind ON orders USING btree (kind)"),),
        checks=(("kinded", "CHECK (kind <> '')"), ("paid", "CHECK (day IS NOT NULL)")),
        touched=keys(BY_KIND, BY_DAY, BY_NOTE, KINDED, picked(YEAR, "year", "note")) | {Key("order", "", TABLE)},
        start=Snapshot(BY_DAY | BY_NOTE | picked(OLD, "note")),
        end=Snapshot(BY_KIND | KINDED | picked(YEAR, "year")),
    )


def test_a_column_that_is_added_again() -> None:
    """A column that is dropped and added under its name is a new one, and loses its values."""
    steps: Steps = [
        [
            ("ALTER TABLE orders DROP COLUMN note", moment(table("id bigint, day date"))),
            (f"{ADD} note int", moment(table("id bigint, day date, note int"), file=2, numbers={"note": 4})),
        ]
    ]
    found = shape(steps, Snapshot(OLD), moment(OLD))
    assert isinstance(found, TargetShape)
    assert (found.gone, found.added) == (("note",), (("note", "int"),))


RETYPED = table("id text, day text, note text, kind text")
WHY_NOT: Mapping[str, tuple[Mapping[Key, str], Steps, str]] = {
    "retyped columns": (
        OLD,
        [[("ALTER TABLE orders ALTER id TYPE text", moment(RETYPED, file=2))]],
        'a step changes the column: "day"',
    ),
    "retyped columns and one more": (
        YEAR,
        [[("ALTER TABLE orders ALTER id TYPE text", moment(RETYPED, file=2))]],
        'a step changes the column: "day"',
    ),
    "the new column": (KIND, SHAPED, 'it already has part of the new version: "kind"'),
    "both new columns": (YEAR, SHAPED, 'it already has part of the new version: "kind"'),
    "the new index": (OLD | BY_KIND, SHAPED, 'it already has part of the new version: "by_kind"'),
    "the new check": (OLD | KINDED, SHAPED, 'it already has part of the new version: "kinded"'),
    "index and column": (KIND | BY_KIND, SHAPED, 'it already has part of the new version: "by_kind"'),
}


@pytest.mark.parametrize(("live", "steps", "expected"), WHY_NOT.values(), ids=WHY_NOT)
def test_a_shape_that_cannot_be_determined(live: Mapping[Key, str], steps: Steps, expected: str) -> None:
    """Columns that stay must be the same, and nothing that the steps add may exist; the first of them is named."""
    assert shape(steps, Snapshot(live)) == expected

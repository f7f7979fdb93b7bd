"""Which steps are one online change of a table, and what the table becomes: from a real rehearsal of both stores."""

from dataclasses import replace

import pytest
from packaging.version import Version

from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.planning import rewrite_span
from schema_migrator.planning.rewrite_span import RewriteSpan, TargetShape
from support.program.rehearsed import Past

TABLE = "executions_visibility"
ALL = [f"1.{minor}" for minor in range(15)]
STRETCHES = {
    "0.0": (3, 7),
    "1.0": (3, 7),
    "1.2": (3, 7),
    "1.3": (4, 6),
    "1.6": (7, 6),
    "1.7": (8, 5),
    "1.8": (9, 2),
    "1.9": (13, 2),
    "1.12": (13, 2),
    "1.13": (14, 1),
}
"""From a version: the minor version of the first step of the stretch, and how often the table is rewritten.

1.10 to 1.12 are empty: they run as they stand.
"""


@pytest.fixture
def visibility(pasts: dict[str, Past]) -> Past:
    """Return what the visibility store's statements make."""
    return pasts["visibility"]


def found(past: Past, version: str, done: int = 0) -> RewriteSpan | None:
    """Return the stretch from a version on."""
    steps = [step for step in past.source.steps if step.version > Version(version)]
    return rewrite_span.rewrite_span(past.rehearsal, steps, {step.version: done for step in steps[:1]})


def became(past: Past, version: str, done: int = 0, live: Snapshot | None = None) -> TargetShape | str:
    """Return what the table becomes from a version on, with so many statements of the next step done."""
    stretch = found(past, version, done)
    assert stretch is not None
    begun = past.rehearsal.within[stretch.steps[0].version][stretch.done]
    return rewrite_span.shape(past.rehearsal, stretch, live or begun)


@pytest.mark.parametrize(("version", "expected"), STRETCHES.items())
def test_the_stretch_from_a_version(visibility: Past, version: str, expected: tuple[int, int]) -> None:
    """All steps from the first that touches this table alone to the last, if any of them writes it anew."""
    stretch = found(visibility, version)
    assert stretch is not None
    assert stretch.table == TABLE
    assert [str(step.version) for step in stretch.steps] == ALL[expected[0] :]
    assert stretch.rewrites == expected[1]


def test_nothing_is_written_anew(pasts: dict[str, Past]) -> None:
    """At the last version, and anywhere in the default store, there is no such stretch."""
    assert found(pasts["visibility"], "1.14") is None
    assert [found(pasts["default"], str(version)) for version in pasts["default"].source.versions] == [None] * 20


def test_only_what_is_left_of_a_step_counts(visibility: Past) -> None:
    """With the statements done that write the table anew, only the later steps do."""
    whole, rest = found(visibility, "1.7"), found(visibility, "1.7", done=5)
    assert whole is not None
    assert rest is not None
    assert (whole.rewrites, rest.rewrites, rest.done) == (5, 2, 5)


def test_a_statement_that_may_change_rows_ends_a_stretch(visibility: Past) -> None:
    """What a rehearsal on empty tables does not show is never left out."""
    steps = list(visibility.source.steps[-2:])
    first, *others = steps[0].files
    changing = replace(first, text=f"{first.text}; UPDATE {TABLE} SET status = 1")
    steps[0] = replace(steps[0], files=(changing, *others))
    stretch = rewrite_span.rewrite_span(visibility.rehearsal, steps, {})
    assert stretch is not None
    assert [str(step.version) for step in stretch.steps] == ["1.14"]


def test_the_shape_is_the_end_at_every_point(visibility: Past) -> None:
    """From every point of every step: the columns that stay and those that come, all indexes and checks of the end."""
    end = visibility.rehearsal.after[Version("1.14")]
    points = [(str(before), done) for before, step in visibility.steps for done in range(len(step.statements))]
    stretches = [(point, stretch) for point in points if (stretch := found(visibility, *point))]
    assert len(stretches) > 100
    for point, stretch in stretches:
        shape = became(visibility, *point)
        assert isinstance(shape, TargetShape)
        start = visibility.rehearsal.within[stretch.steps[0].version][stretch.done]
        kept = [name for name in start.order(TABLE) if name not in shape.gone]
        assert kept + [name for name, _ in shape.added] == list(end.order(TABLE))
        assert dict(shape.indexes) == of(end, "index")
        assert dict(shape.checks) == of(end, "constraint")


def of(taken: Snapshot, kind: str) -> dict[str, str]:
    """Return the table's objects of a kind, the primary key aside."""
    return {
        key.name: text
        for key, text in taken.objects.items()
        if (key.kind, key.parent) == (kind, TABLE) and not text.startswith("PRIMARY KEY ")
    }


def test_a_column_added_again_is_another_one(visibility: Past) -> None:
    """1.6 drops two columns and adds them again: their values are not carried over, those of all others are."""
    shape = became(visibility, "1.5")
    assert isinstance(shape, TargetShape)
    assert {"root_run_id", "root_workflow_id"} <= set(shape.gone)
    assert {"root_run_id", "root_workflow_id"} <= {name for name, _ in shape.added}
    assert not {"namespace_id", "run_id", "memo", "search_attributes"} & set(shape.gone)


def live_with(past: Past, version: str, objects: dict[Key, str]) -> Snapshot:
    """Return what is there at a version, with some objects more or other."""
    begun = past.rehearsal.after[Version(version)]
    return replace(begun, objects={**begun.objects, **objects})


def test_the_users_own_goes_along(visibility: Past) -> None:
    """Indexes, checks and columns that no version knows stay."""
    order = visibility.rehearsal.after[Version("1.12")].order(TABLE)
    own = {
        Key("index", TABLE, "own"): f"CREATE INDEX own ON {TABLE} USING btree (run_id)",
        Key("constraint", TABLE, "own"): "CHECK (status > 0)",
        Key("column", TABLE, "own"): "integer",
        Key("order", "", TABLE): ", ".join([*order, "own"]),
    }
    shape = became(visibility, "1.12", live=live_with(visibility, "1.12", own))
    assert isinstance(shape, TargetShape)
    assert "own" in dict(shape.indexes)
    assert dict(shape.checks)["own"] == "CHECK (status > 0)"
    assert "own" not in shape.gone


@pytest.mark.parametrize("kind", ["index", "column"])
def test_a_part_of_the_new_version_is_there_already(visibility: Past, kind: str) -> None:
    """An object of the target that no statement of ours made is no state to start from: the reason names it."""
    end = visibility.rehearsal.after[Version("1.14")]
    start = visibility.rehearsal.after[Version("1.12")]
    key = min(key for key in end.objects.keys() - start.objects.keys() if (key.kind, key.parent) == (kind, TABLE))
    objects = {key: end.objects[key]}
    if kind == "column":
        objects[Key("order", "", TABLE)] = ", ".join([*start.order(TABLE), key.name])
    assert (
        became(visibility, "1.12", live=live_with(visibility, "1.12", objects))
        == f'it already has part of the new version: "{key.name}"'
    )


def test_a_column_whose_type_changes(visibility: Past) -> None:
    """A step that alters a column that stays cannot be a copy of its rows."""
    within = dict(visibility.rehearsal.within)
    key = Key("column", TABLE, "memo")
    *others, last = within[Version("1.14")]
    within[Version("1.14")] = (*others, replace(last, objects={**last.objects, key: "text"}))
    past = replace(visibility, rehearsal=replace(visibility.rehearsal, within=within))
    assert became(past, "1.12") == 'a step changes the column: "memo"'

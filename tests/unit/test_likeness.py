"""How the old and the new table of a rewrite differ, in words."""

from collections.abc import Mapping
from typing import Any

import pytest

from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.online.catalog_comparison import Part, differences
from schema_migrator.planning.rewrite_span import TargetShape

TABLE = "orders"
SHAPE = TargetShape(
    table=TABLE,
    gone=("old",),
    added=(("new", "int"),),
    indexes=(),
    checks=(),
    touched=frozenset({Key("index", TABLE, "by_new"), Key("constraint", TABLE, "checked")}),
    start=Snapshot({}),
    end=Snapshot({}),
)
OLD: dict[Part, dict[str, Any]] = {
    ("table", ""): {"columns": ["id", "old", "name"], "relowner": "10", "relreplident": "i"},
    ("column", "id"): {"default": None},
    ("column", "old"): {"default": None},
    ("column", "name"): {"default": None},
    ("index", "orders_pkey"): {"comment": "key"},
    ("constraint", "orders_pkey"): {"contype": "p", "columns": ["id"]},
    ("constraint", "old_not_null"): {"contype": "n", "columns": ["old"]},
    ("constraint", "name_not_null"): {"contype": "n", "columns": ["name"]},
    ("constraint", "checked"): {"contype": "c", "columns": ["id"]},
}
NEW: dict[Part, dict[str, Any]] = {
    ("table", ""): {"columns": ["id", "name", "new"], "relowner": "10", "relreplident": "i"},
    ("column", "id"): {"default": None},
    ("column", "name"): {"default": None},
    ("column", "new"): {"default": "1"},
    ("index", "orders_pkey"): {"comment": "key"},
    ("index", "by_new"): {"comment": None},
    ("constraint", "orders_pkey"): {"contype": "p", "columns": ["id"]},
    ("constraint", "new_not_null"): {"contype": "n", "columns": ["new"]},
    ("constraint", "name_not_null"): {"contype": "n", "columns": ["name"]},
}


def test_what_the_steps_change_is_no_difference() -> None:
    """Columns that go or come, with their NOT NULL, and touched indexes and checks, are left out."""
    assert differences(OLD, NEW, SHAPE) == ()


CHANGES: Mapping[str, tuple[Part, dict[str, Any] | None, str]] = {
    "owner": (
        ("table", ""),
        {"columns": ["id", "name", "new"], "relowner": "11", "relreplident": "i"},
        "relowner of table is 11, expected 10",
    ),
    "order": (
        ("table", ""),
        {"columns": ["name", "id", "new"], "relowner": "10", "relreplident": "i"},
        "columns of table is ['name', 'id', 'new'], expected ['id', 'name', 'new']",
    ),
    "default": (("column", "name"), {"default": "'x'"}, "default of column \"name\" is 'x', expected None"),
    "index gone": (("index", "orders_pkey"), None, 'index "orders_pkey" is missing'),
    "index more": (("index", "own"), {"comment": None}, 'index "own" is not expected'),
    "property more": (
        ("index", "orders_pkey"),
        {"comment": "key", "indisnew": True},
        'indisnew of index "orders_pkey" is True, expected None',
    ),
    "not null": (("constraint", "name_not_null"), None, 'constraint "name_not_null" is missing'),
}


@pytest.mark.parametrize(("part", "said", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_difference_is_named(part: Part, said: dict[str, Any] | None, expected: str) -> None:
    """Anything else is named with what was found and what was expected."""
    new = {one: properties for one, properties in NEW.items() if one != part} | ({part: said} if said else {})
    assert differences(OLD, new, SHAPE) == (expected,)


def test_a_table_that_has_no_indexes_yet() -> None:
    """Before they are built, neither they nor key nor replica identity count; the rest does."""
    bare = {part: said for part, said in NEW.items() if part[0] != "index" and part != ("constraint", "orders_pkey")}
    bare["table", ""] = {**NEW["table", ""], "relreplident": "d"}
    assert differences(OLD, bare, SHAPE, bare=True) == ()
    bare["column", "id"] = {"default": "0"}
    assert differences(OLD, bare, SHAPE, bare=True) == ('default of column "id" is 0, expected None',)

"""Compares a rewritten table with the old one, by every catalog property that the steps do not change.

Rows are compared in `copy_proof`. What becomes of each property is in `catalog.table_register`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from schema_migrator.catalog import table_register
from schema_migrator.catalog.snapshot import Key
from schema_migrator.postgres import queries

if TYPE_CHECKING:
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection

Part = tuple[str, str]
"""A kind (table, column, index or constraint) and a name; the table's name is empty."""
Picture = Mapping[Part, Mapping[str, Any]]
"""A snapshot of a table's catalog rows: the properties of each part."""

_QUERY = queries.load(__file__, "table_properties")
_LEFT_OUT = {name: table_register.left_out(name) for name in table_register.CATALOGS}


def take(conn: Connection, oid: int, *, new: bool = False) -> Picture:
    """Return the snapshot of a table. An index counts as valid in any case, but in a `new` table only if it is."""
    rows = conn.execute(_QUERY, {"oid": oid, "new": new, **_LEFT_OUT}).fetchall()
    return {(kind, name): properties for kind, name, properties in rows}


def differences(old: Picture, new: Picture, shape: TargetShape, *, bare: bool = False) -> tuple[str, ...]:
    """Return in words how the new table differs from the old one, except for what the steps change.

    A `bare` new table has no indexes yet, and so no primary key or replica identity.
    """
    before, after = _expected(old, shape, bare=bare), _left(new, shape, bare=bare)
    return tuple(_differ(before, after))


def _expected(old: Picture, shape: TargetShape, *, bare: bool) -> Picture:
    """Return the snapshot that the old table should have after the steps."""
    columns = [*(name for name in old["table", ""]["columns"] if name not in shape.gone), *dict(shape.added)]
    kept = _left(old, shape, bare=bare)
    return {**kept, ("table", ""): {**kept["table", ""], "columns": columns}}


def _left(taken: Picture, shape: TargetShape, *, bare: bool) -> Picture:
    """Return the parts of a snapshot that no step changes."""
    changed = {*shape.gone, *dict(shape.added)}

    def stays(part: Part, properties: Mapping[str, Any]) -> bool:
        kind, name = part
        if kind == "column":
            return name not in changed
        if kind == "constraint" and properties["contype"] == "n":
            return not changed.intersection(properties["columns"])
        late = kind == "index" or (kind == "constraint" and properties["contype"] == "p")
        return not (bare and late) and Key(kind, shape.table, name) not in shape.touched

    return {
        part: {name: value for name, value in properties.items() if not (bare and name == "relreplident")}
        for part, properties in taken.items()
        if stays(part, properties)
    }


def _differ(before: Picture, after: Picture) -> Iterator[str]:
    for part in sorted(before.keys() | after.keys()):
        kind, name = part
        label = f'{kind} "{name}"' if name else kind
        old, new = before.get(part), after.get(part)
        if old is None or new is None:
            yield f"{label} is {'not expected' if old is None else 'missing'}"
            continue
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield f"{key} of {label} is {new.get(key)}, expected {old.get(key)}"

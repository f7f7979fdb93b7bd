"""Whether a rewritten table is what the old one was, but for what the steps change, by all that the catalogs have."""

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
"""A kind, table, column, index or constraint, and a name; the table's is empty."""
Picture = Mapping[Part, Mapping[str, Any]]
"""What the catalogs say of each part, by property."""

_QUERY = queries.load(__file__, "table_properties")
_LEFT_OUT = {name: table_register.left_out(name) for name in table_register.CATALOGS}


def take(conn: Connection, oid: int, *, new: bool = False) -> Picture:
    """Return the picture of a table; of a `new` one an index counts as valid only where it is."""
    rows = conn.execute(_QUERY, {"oid": oid, "new": new, **_LEFT_OUT}).fetchall()
    return {(kind, name): properties for kind, name, properties in rows}


def differences(old: Picture, new: Picture, shape: TargetShape, *, bare: bool = False) -> tuple[str, ...]:
    """Return in words how the new table differs from the old one beyond what the steps change.

    A `bare` table has no indexes yet, and neither key nor replica identity.
    """
    before, after = _expected(old, shape, bare=bare), _left(new, shape, bare=bare)
    return tuple(_differ(before, after))


def _expected(old: Picture, shape: TargetShape, *, bare: bool) -> Picture:
    """Return the picture of the old table as the steps leave it."""
    columns = [*(name for name in old["table", ""]["columns"] if name not in shape.gone), *dict(shape.added)]
    kept = _left(old, shape, bare=bare)
    return {**kept, ("table", ""): {**kept["table", ""], "columns": columns}}


def _left(one: Picture, shape: TargetShape, *, bare: bool) -> Picture:
    """Return the part of a picture that no step changes."""
    changed = {*shape.gone, *dict(shape.added)}

    def stays(part: Part, said: Mapping[str, Any]) -> bool:
        kind, name = part
        if kind == "column":
            return name not in changed
        if kind == "constraint" and said["contype"] == "n":
            return not changed.intersection(said["columns"])
        late = kind == "index" or (kind == "constraint" and said["contype"] == "p")
        return not (bare and late) and Key(kind, shape.table, name) not in shape.touched

    return {
        part: {name: value for name, value in said.items() if not (bare and name == "relreplident")}
        for part, said in one.items()
        if stays(part, said)
    }


def _differ(before: Picture, after: Picture) -> Iterator[str]:
    for part in sorted(before.keys() | after.keys()):
        kind, name = part
        label = f'{kind} "{name}"' if name else kind
        was, found = before.get(part), after.get(part)
        if was is None or found is None:
            yield f"{label} is {'not expected' if was is None else 'missing'}"
            continue
        for key in sorted(was.keys() | found.keys()):
            if was.get(key) != found.get(key):
                yield f"{key} of {label} is {found.get(key)}, expected {was.get(key)}"

"""Compares a rewritten table with the old one, by every catalog property that the steps do not change.

Rows are compared in `copy_proof`. What becomes of each property is in `catalog.table_register`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, LiteralString

from schema_migrator.catalog import table_register
from schema_migrator.catalog.snapshot import Key

if TYPE_CHECKING:
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection

Part = tuple[str, str]
"""A kind (table, column, index or constraint) and a name; the table's name is empty."""
Picture = Mapping[Part, Mapping[str, Any]]
"""A snapshot of a table's catalog rows: the properties of each part."""

# Column options that begin with pg_ are PostgreSQL's own: since November 2026 it keeps a version of the column there,
# by which it recognises stored values of the row type that no longer fit. Tables that can have such values are not
# rewritten online. Numbers of columns and indexes belong to one table only, so names and texts are compared instead.
# A new index must be valid; an old invalid one counts as valid, because a rewrite in place would make it valid.
_QUERY: LiteralString = """
WITH t AS MATERIALIZED (SELECT * FROM pg_catalog.pg_class WHERE oid = %(oid)s),
a AS MATERIALIZED (
  SELECT * FROM pg_catalog.pg_attribute WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped
)
SELECT 'table', '', to_jsonb(t) - %(pg_class)s::text[] || jsonb_build_object(
  'columns', (SELECT jsonb_agg(attname ORDER BY attnum) FROM a),
  'rights', ARRAY(SELECT one::text FROM unnest(coalesce(relacl, acldefault('r', relowner))) one ORDER BY 1),
  'options', ARRAY(SELECT unnest(reloptions) ORDER BY 1),
  'comment', obj_description(t.oid, 'pg_class'), 'comment of the row type', obj_description(t.reltype, 'pg_type'),
  'options of its TOAST table', ARRAY(SELECT unnest(s.reloptions) FROM pg_catalog.pg_class s
    WHERE s.oid = t.reltoastrelid ORDER BY 1)
) FROM t
UNION ALL
SELECT 'column', a.attname, to_jsonb(a) - %(pg_attribute)s::text[] || jsonb_build_object(
  'default', pg_get_expr(d.adbin, d.adrelid), 'comment', col_description(a.attrelid, a.attnum),
  'rights', ARRAY(SELECT one::text FROM unnest(a.attacl) one ORDER BY 1),
  'options', ARRAY(SELECT one FROM unnest(a.attoptions) one WHERE left(one, 3) <> 'pg_' ORDER BY 1)
) FROM a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
SELECT 'index', c.relname, to_jsonb(c) - %(pg_class)s::text[] || to_jsonb(i) - %(pg_index)s::text[]
|| jsonb_build_object(
  'columns', (SELECT jsonb_agg((SELECT n.attname FROM pg_catalog.pg_attribute n
      WHERE n.attrelid = i.indrelid AND n.attnum = k.number) ORDER BY k.place)
    FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)),
  'expressions', pg_get_expr(i.indexprs, i.indrelid), 'predicate', pg_get_expr(i.indpred, i.indrelid),
  'options', ARRAY(SELECT unnest(c.reloptions) ORDER BY 1), 'comment', obj_description(c.oid, 'pg_class'),
  'valid', i.indisvalid AND i.indisready AND i.indislive OR NOT %(new)s,
  'statistics targets and options of its columns', (SELECT jsonb_agg(jsonb_build_array(e.attstattarget,
      ARRAY(SELECT one FROM unnest(e.attoptions) one WHERE left(one, 3) <> 'pg_' ORDER BY 1)) ORDER BY e.attnum)
    FROM pg_catalog.pg_attribute e WHERE e.attrelid = c.oid)
) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %(oid)s
UNION ALL
SELECT 'constraint', c.conname, to_jsonb(c) - %(pg_constraint)s::text[] || jsonb_build_object(
  'columns', (SELECT jsonb_agg(n.attname ORDER BY n.attname) FROM pg_catalog.pg_attribute n
    WHERE n.attrelid = c.conrelid AND n.attnum = ANY (c.conkey)),
  'definition', pg_get_constraintdef(c.oid), 'comment', obj_description(c.oid, 'pg_constraint'),
  'index', (SELECT relname FROM pg_catalog.pg_class WHERE oid = c.conindid)
) FROM pg_catalog.pg_constraint c WHERE c.conrelid = %(oid)s
"""
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

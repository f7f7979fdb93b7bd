"""Whether a rewritten table is what the old one was, but for what the steps change, by all that the catalogs have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, LiteralString

from schema_migrator.catalog import table_register
from schema_migrator.catalog.snapshot import Key

if TYPE_CHECKING:
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection

Part = tuple[str, str]
"""A kind, table, column, index or constraint, and a name; the table's is empty."""
Picture = Mapping[Part, Mapping[str, Any]]
"""What the catalogs say of each part, by property."""

# Options of columns that begin with pg_ are PostgreSQL's own: since November 2026 a version of the column, by which
# it knows stored values of the row type that no longer fit. Where there can be any, the rewrite is forbidden.
# Numbers are of columns and indexes of one table alone, so names and texts stand for them. A new index is valid, and
# an old one that is not would be so after a rewrite in place.
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

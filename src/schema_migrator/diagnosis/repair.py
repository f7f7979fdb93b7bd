"""Writes the SQL that repairs one change, for a person to run. It loses no value, and takes effect completely or not.

An object in the place of a vendor's object is kept under another name. Decisions for a person are left as comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.catalog import owners, seed_row
from schema_migrator.catalog.snapshot import INVALID

if TYPE_CHECKING:
    from schema_migrator.catalog.snapshot import Change, Key

KEPT = "_before_repair"
"""The suffix of the name of an object that a repair keeps."""

_NAME_LENGTH = 63
_LOCK_TIMEOUT = "5s"
_COLUMN = re.compile(
    r"(?P<type>.+?)(?: COLLATE (?P<collation>\S+))?(?P<not_null> NOT NULL)?(?: DEFAULT (?P<default>.+?))?"
    r"(?P<generated> GENERATED .+?)?(?P<uses> /\*.*)?",
    re.DOTALL,
)
_TEXT = re.compile(r"text|character varying(?:\((?P<length>\d+)\))?")
_PADDED = re.compile(r"character\(\d+\)")
_COMPUTED = "check whether stored columns still hold values from the old version of the function"
_FROM_ONE = "the sequence starts at 1; if its column has higher values, advance it with setval before anything writes"
_ANOTHER = {"order": "the columns are in another order, which only a new table would change"}
_INTEGERS = ("smallint", "integer", "bigint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """The repair of a change: `statements` that run as one, or a statement `alone` that cannot run in a transaction.

    `notes` are what a person must decide.
    """

    statements: tuple[str, ...] = ()
    alone: str = ""
    notes: tuple[str, ...] = ()


def repair(change: Change, schema: str) -> tuple[str, ...]:
    """Return the lines of the SQL that makes a missing or different object of a schema as expected.

    All statements of a change are one DO block, which is atomic however it is sent. A BEGIN block is not: after an
    error, psql's ON_ERROR_ROLLBACK commits the rest of it. The DO block sets search_path to the schema, and gives up if
    it does not get a lock within 5 s.
    """
    result = _made(change, schema)
    pieces = [*_block(result.statements, schema)] if result.statements else [result.alone] if result.alone else []
    # A name or a default can contain line breaks, after which the rest of the comment would be SQL.
    return (*pieces, *("-- " + " ".join(note.split()) for note in result.notes))


def _block(statements: tuple[str, ...], schema: str) -> tuple[str, ...]:
    setting = f"SET LOCAL search_path = {owners.quoted(schema)}, pg_temp; SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}';"
    tag = "repair"
    while f"${tag}$" in "".join([setting, *statements]):
        tag += "_"
    return f"DO ${tag}$ BEGIN {setting}", *statements, f"END ${tag}$;"


def _made(change: Change, schema: str) -> Repair:
    if change.expected is None:
        return _look(f"not part of this version; if nothing needs it: {_drop(change.key)}")
    if change.key.kind == "row":
        return Repair(statements=(seed_row.REPAIR,))
    if change.found is None and change.renamed:
        return _rename(change)
    if change.found is None:
        return _create(change, schema)
    if change.found == change.expected + INVALID:
        return Repair(alone=f"REINDEX INDEX CONCURRENTLY {owners.quoted(schema)}.{_quoted(change.key.name)};")
    return _alter(change, change.expected, change.found)


def _look(note: str) -> Repair:
    return Repair(notes=(f"look first: {note}",))


def _rename(change: Change) -> Repair:
    """Let a person decide whether an object of the same form is the missing one; a new one would lack its values."""
    kind, parent, name = change.key
    if kind == "index":
        rename = f"ALTER TABLE {_quoted(parent)} RENAME CONSTRAINT {_quoted(name)} TO {_kept(name)};"
        return _look(
            f"a constraint uses its name; to keep the constraint under another name: {rename} {change.expected};"
        )
    place = f"ALTER TABLE {_quoted(parent)} RENAME COLUMN" if kind == "column" else "ALTER TABLE"
    to = "TO" if kind == "column" else "RENAME TO"
    ways = tuple(f"{place} {_quoted(other)} {to} {_quoted(name)};" for other in change.renamed)
    note = f"look first: if {', '.join(map(_quoted, change.renamed))} is the same, renamed: {' or '.join(ways)}"
    return Repair(notes=(note, f"look first: if it is gone: {' '.join(_creating(change))}"))


def _create(change: Change, schema: str) -> Repair:
    """Return the repair that creates a missing object. An index that no row can violate does not block writers."""
    kind, parent, name = change.key
    index, found = f"INDEX {_quoted(name)} ON ", change.expected or ""
    if kind == "index" and found.startswith(f"CREATE {index}{_quoted(parent)} "):
        rest = found.removeprefix(f"CREATE {index}")
        return Repair(alone=f"CREATE INDEX CONCURRENTLY {_quoted(name)} ON {owners.quoted(schema)}.{rest};")
    statements = _creating(change)
    if not statements:
        return _look(f"create {change.key} as the vendor's files do")
    return Repair(statements=statements, notes=(_FROM_ONE,) if kind == "sequence" else ())


def _creating(change: Change) -> tuple[str, ...]:
    kind, parent, name = change.key
    table, quoted = _quoted(parent), _quoted(name)
    if kind == "table":
        columns = (f"{_quoted(part.key.name)} {part.expected}" for part in change.parts if part.key.kind == "column")
        others = (_creating(part) for part in change.parts if part.key.kind != "column")
        return f"CREATE TABLE {quoted} ({', '.join(columns)});", *(text for texts in others for text in texts)
    ways = {
        "index": f"{change.expected};",
        "column": f"ALTER TABLE {table} ADD COLUMN {quoted} {change.expected};",
        "constraint": f"ALTER TABLE {table} ADD CONSTRAINT {quoted} {change.expected};",
        "function": f"CREATE OR REPLACE FUNCTION {name} {change.expected};",
        "type": f"CREATE TYPE {quoted} {change.expected};",
        "domain": f"CREATE DOMAIN {quoted} {change.expected};",
        "sequence": f"CREATE SEQUENCE {quoted};",
        "extension": f"CREATE EXTENSION {quoted};",
    }
    return (ways[kind],) if kind in ways else ()


def _drop(key: Key) -> str:
    match key.kind:
        case "column" | "constraint":
            return f"ALTER TABLE {_quoted(key.parent)} DROP {key.kind.upper()} {_quoted(key.name)};"
        case "trigger" | "policy":
            return f"DROP {key.kind.upper()} {_quoted(key.name)} ON {_quoted(key.parent)};"
        case "function":
            return f"DROP FUNCTION {key.name};"
        case _:
            return f"DROP {key.kind.upper()} {_quoted(key.name)};"


def _alter(change: Change, expected: str, found: str) -> Repair:
    match change.key.kind:
        case "column":
            return _alter_column(change, expected, found)
        case "constraint":
            return _alter_constraint(change, expected, found)
        case "table":
            return _alter_table(change, expected, found)
        case "index":
            return _replace_index(change)
        case "function":
            return Repair(statements=_creating(change), notes=(_COMPUTED,))
        case _:
            return _look(_ANOTHER.get(change.key.kind, f"create {change.key} as the vendor's files do"))


def _replace_index(change: Change) -> Repair:
    name, kept = _quoted(change.key.name), _kept(change.key.name)
    rename = f"ALTER INDEX {name} RENAME TO {kept};"
    return Repair(statements=(rename, *_creating(change)), notes=(_afterwards(kept, f"DROP INDEX {kept};"),))


def _alter_constraint(change: Change, expected: str, found: str) -> Repair:
    table, name, kept = _quoted(change.key.parent), _quoted(change.key.name), _kept(change.key.name)
    drop, create = _drop(change.key), " ".join(_creating(change))
    if found == f"{expected} NOT VALID":
        return Repair(statements=(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};",))
    if expected.startswith("PRIMARY KEY") and found.startswith("PRIMARY KEY"):
        return _look(f"a table has one primary key, and others may refer to this one: {drop} {create}")
    rename = f"ALTER TABLE {table} RENAME CONSTRAINT {name} TO {kept};"
    note = _afterwards(kept, f"ALTER TABLE {table} DROP CONSTRAINT {kept};")
    return Repair(statements=(rename, create), notes=(note,))


def _alter_table(change: Change, expected: str, found: str) -> Repair:
    table, words = _quoted(change.key.name), found.replace("ROW LEVEL SECURITY", "RLS").split()
    if expected or not {"UNLOGGED", "RLS", "FORCE"}.issuperset(words):
        return _look("the table is of another kind, which only a new table can change")
    opens = f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;"
    secured = f"look first: without row-level security every role with a grant can read and change all rows: {opens}"
    return Repair(
        statements=(f"ALTER TABLE {table} SET LOGGED;",) if "UNLOGGED" in words else (),
        notes=(secured,) if "RLS" in words else (),
    )


def _alter_column(change: Change, expected: str, found: str) -> Repair:
    """Change a column in place. Only a computed column is created again, beside the existing one."""
    wanted, actual = _COLUMN.fullmatch(expected), _COLUMN.fullmatch(found)
    if wanted is None or actual is None or not _stored(wanted):
        return _look(f"the column must be: {expected}")
    using = _conversion(_quoted(change.key.name), actual, wanted)
    if wanted["generated"] and (wanted["generated"] != actual["generated"] or actual["uses"] or using is None):
        return _replace_column(change)
    statements = _altering(change, wanted, actual, _as_utc(change, actual) if using is None else using)
    if using is None or not statements or not _stored(actual):
        return _look(f"this may change values: {' '.join(statements)}")
    return Repair(statements=statements)


def _stored(column: re.Match[str]) -> bool:
    """Whether the table holds everything of a column: it is neither virtual nor an identity, which has a sequence."""
    return column["generated"] is None or column["generated"].endswith(" STORED")


def _altering(change: Change, wanted: re.Match[str], actual: re.Match[str], using: str) -> tuple[str, ...]:
    table, column = _quoted(change.key.parent), f"ALTER COLUMN {_quoted(change.key.name)}"
    plain = actual["generated"] and not wanted["generated"]
    what = "EXPRESSION" if _stored(actual) else "IDENTITY"
    first = (f"ALTER TABLE {table} {column} DROP {what};",) if plain else ()
    parts = []
    if wanted["type"] != actual["type"] or wanted["collation"] != actual["collation"]:
        collation = f" COLLATE {wanted['collation']}" if wanted["collation"] else ""
        parts.append(f"{column} TYPE {wanted['type']}{collation}{'' if wanted['generated'] else using}")
    if wanted["default"] != actual["default"] or (wanted["default"] and actual["uses"]):
        parts.append(f"{column} SET DEFAULT {wanted['default']}" if wanted["default"] else f"{column} DROP DEFAULT")
    if wanted["not_null"] != actual["not_null"]:
        parts.append(f"{column} {'SET' if wanted['not_null'] else 'DROP'} NOT NULL")
    return (*first, f"ALTER TABLE {table} {', '.join(parts)};") if parts else first


def _conversion(column: str, actual: re.Match[str], wanted: re.Match[str]) -> str | None:
    """Return the USING clause with which each value stays as it is or the statement fails; None if there is none.

    It is empty if no clause is needed. Without the clause, ALTER TABLE to a shorter varchar would silently cut values
    that only trailing blanks make too long; for all others that are too long it fails.
    """
    before, after = actual["type"], wanted["type"]
    old, new = _TEXT.fullmatch(before), _TEXT.fullmatch(after)
    if before == after or {before, after} <= {*_INTEGERS} or (_PADDED.fullmatch(before) and _PADDED.fullmatch(after)):
        return ""
    if not old or not new:
        return None
    if new["length"] is None or (old["length"] and int(old["length"]) <= int(new["length"])):
        return ""
    long = f"pg_catalog.char_length({column}) OPERATOR(pg_catalog.>) {new['length']}"
    return f" USING CASE WHEN {long} THEN {column} OPERATOR(pg_catalog.||) '!' ELSE {column} END"


def _as_utc(change: Change, actual: re.Match[str]) -> str:
    """Return the USING clause for a column that was given a time zone; empty for any other column.

    Temporal's times are UTC, but the session may have another time zone.
    """
    zoned = actual["type"].endswith("with time zone")
    return f" USING {_quoted(change.key.name)} AT TIME ZONE 'UTC'" if zoned else ""


def _replace_column(change: Change) -> Repair:
    """Create a computed column with its indexes beside the existing one.

    Dropping the existing one would also drop the user's own indexes and constraints, and the values of a plain column.
    """
    table, name, kept = _quoted(change.key.parent), _quoted(change.key.name), _kept(change.key.name)
    aside = (
        f"ALTER INDEX IF EXISTS {_quoted(part.key.name)} RENAME TO {_kept(part.key.name)};" for part in change.parts
    )
    indexes = (text for part in change.parts for text in _creating(part))
    statements = (f"ALTER TABLE {table} RENAME COLUMN {name} TO {kept};", *aside, *_creating(change), *indexes)
    note = _afterwards(kept, f"ALTER TABLE {table} DROP COLUMN {kept};")
    return Repair(statements=statements, notes=(note,))


def _afterwards(kept: str, drop: str) -> str:
    return f"the old object is now {kept}; if nothing needs it: {drop}"


def _kept(name: str) -> str:
    return _quoted(name[: _NAME_LENGTH - len(KEPT)] + KEPT)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_$]*", name) else owners.quoted(name)

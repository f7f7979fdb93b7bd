"""What the rows of executions_visibility have to be, kept by those who write them, and compared with what they are."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from support.postgres.engine import Connection
from support.visibility.executions import TABLE, Key, Row, Statements, as_read

Effect: TypeAlias = Mapping[Key, Row | None]
"""What becomes of rows; None is a row that does not exist."""

OTHERS = """
SELECT attname, coalesce(pg_get_expr(adbin, adrelid), 'NULL') FROM pg_attribute
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname <> ALL (%s)
ORDER BY attnum
"""
BROKEN_INDEXES = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::regclass AND NOT (i.indisvalid AND i.indisready AND i.indislive) ORDER BY 1
"""
SHOWN = 3


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The rows of one owner as they have to be, and the keys that were deleted, which may be there again."""

    rows: dict[Key, Row] = field(default_factory=dict)
    gone: list[Key] = field(default_factory=list)
    _keys: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._keys.extend(self.rows)

    def apply(self, effect: Effect) -> None:
        """Write down what has become of rows."""
        for key, row in effect.items():
            if row is None:
                if self.rows.pop(key, None) is not None:
                    self.gone.append(key)
                continue
            if key not in self.rows:
                self._keys.append(key)
            self.rows[key] = row

    def pick(self, chance: random.Random) -> Key | None:
        """Return the key of some row, or None where there is no row."""
        while self._keys:
            place = chance.randrange(len(self._keys))
            if (key := self._keys[place]) in self.rows:
                return key
            self._keys[place] = self._keys[-1]
            self._keys.pop()
        return None

    def now(self, keys: Iterable[Key]) -> dict[Key, Row | None]:
        """Return what some rows have to be."""
        return {key: self.rows.get(key) for key in keys}


def load(connection: Connection, statements: Statements) -> dict[Key, Row]:
    """Return all rows of the table."""
    rows = map(as_read, connection.execute(statements.every.encode()).fetchall())
    return {(row[0], row[1]): row for row in rows}


def differences(
    connection: Connection, statements: Statements, expected: Mapping[Key, Row], where: str = "true"
) -> list[str]:
    """Return in words how the table, or a part of it, differs from what it has to be; no index is used to read it.

    The columns that are generated are computed anew from those that were written; those that came later have
    their default.
    """
    with connection.transaction():
        connection.execute("SET LOCAL enable_indexscan = off")
        connection.execute("SET LOCAL enable_bitmapscan = off")
        rows = connection.execute(f"{statements.every} WHERE {where}".encode()).fetchall()
        return [*_wrong_rows(map(as_read, rows), expected), *_wrong_others(connection, statements, where)]


def _wrong_rows(found: Iterable[Row], expected: Mapping[Key, Row]) -> list[str]:
    rows, times = {}, Counter[Key]()
    for row in found:
        rows[row[0], row[1]] = row
        times[row[0], row[1]] += 1
    kinds = {
        "lost": [key for key in expected if key not in rows],
        "doubled": [key for key, count in times.items() if count > 1],
        "come back": [key for key in rows if key not in expected],
        "old": [key for key, row in rows.items() if key in expected and row != expected[key]],
    }
    return [f"{len(keys)} rows are {kind}: {sorted(keys)[:SHOWN]}" for kind, keys in kinds.items() if keys]


def _wrong_others(connection: Connection, statements: Statements, where: str) -> list[str]:
    others = connection.execute(OTHERS, [TABLE, list(statements.columns)]).fetchall()
    if not others:
        return []
    counts = ", ".join(f"count(*) FILTER (WHERE {name} IS DISTINCT FROM ({value}))" for name, value in others)
    row = connection.execute(f"SELECT {counts} FROM {TABLE} WHERE {where}".encode()).fetchone()
    assert row is not None
    return [
        f"{count} rows have another {name} than {value}"
        for (name, value), count in zip(others, row, strict=True)
        if count
    ]


def broken_indexes(connection: Connection) -> list[str]:
    """Return the indexes that are invalid or lack a row of the table; a superuser's connection, leaves amcheck."""
    broken = [name for (name,) in connection.execute(BROKEN_INDEXES, [TABLE]).fetchall()]
    connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    connection.execute(
        "SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
        " JOIN pg_am a ON a.oid = c.relam WHERE indrelid = %s::regclass AND amname = 'btree'",
        [TABLE],
    )
    return broken

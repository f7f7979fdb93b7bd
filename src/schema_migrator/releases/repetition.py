"""Decides from a statement's text whether it may run a second time without changing any row twice.

An interrupted step shows in the catalogs how far it came, but not whether a statement ran that changed only rows.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from schema_migrator.releases.statements import Statement

_CHANGES_ROWS = re.compile(r"(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|CALL|SELECT|WITH|EXPLAIN)\b", re.IGNORECASE)
_INSERT = re.compile(
    r"INSERT\s+INTO\s+(?:\w+\s*\.\s*)?(?P<table>\w+)\s*\((?P<columns>[^()]*)\)(?P<rest>.*)", re.DOTALL | re.IGNORECASE
)
_UPDATE = re.compile(
    r"UPDATE\s+(?:ONLY\s+)?(?:\w+\s*\.\s*)?\w+\s+SET\s+(?P<set>(?:(?!\bWHERE\b|\bRETURNING\b).)+?)"
    r"(?P<where>\s+WHERE\s+(?:(?!\bWHERE\b|\bRETURNING\b).)+)?",
    re.DOTALL | re.IGNORECASE,
)
_ASSIGNED = re.compile(r"(?:^|,)\s*(\w+)\s*=")
_CALL = re.compile(r"\b(?!(?:VALUES|IN|AND|OR|NOT|COALESCE|NULLIF)\b)\w+\s*\(", re.IGNORECASE)
_VOLATILE = re.compile(r"\bcurrent_\w+\b|\blocaltime\w*\b|\bDEFAULT\b", re.IGNORECASE)


def changes_only_rows(statement: Statement) -> bool:
    """Whether a statement without effect on the structure may have changed rows."""
    return bool(_CHANGES_ROWS.match(statement.text)) or (statement.text[:2].upper() == "DO" and statement.changes_rows)


def inserted_into(statement: Statement) -> str | None:
    """Return the table into which an INSERT with a list of columns writes; None for any other statement."""
    found = _INSERT.fullmatch(statement.code)
    return found["table"].lower() if found else None


def repeatable(statement: Statement, keys: Collection[frozenset[str]]) -> Statement | None:
    """Return the form in which a statement may run again, or None if that could change rows twice.

    `keys` are the columns of the primary key and of each unique constraint of the table that an INSERT writes to. Its
    rows have the same key the second time, and are left as they are.
    """
    if not changes_only_rows(statement):
        return statement
    if _is_repeatable_update(statement.code):
        return statement
    found = _INSERT.fullmatch(statement.code)
    if found is None or _varies(found["rest"]) or "RETURNING" in found["rest"].upper():
        return None
    if re.search(r"\bON\s+CONFLICT\b", found["rest"], re.IGNORECASE):
        return statement if re.search(r"\bDO\s+NOTHING\b", found["rest"], re.IGNORECASE) else None
    columns = {name.strip().lower() for name in found["columns"].split(",")}
    if not any(key <= columns for key in keys):
        return None
    return replace(statement, text=f"{statement.text} ON CONFLICT DO NOTHING")


def _is_repeatable_update(code: str) -> bool:
    """Whether an UPDATE gives each row the same values again: none of them depends on a column that it assigns."""
    found = _UPDATE.fullmatch(code)
    if found is None or _varies(found["set"]) or _varies(found["where"] or ""):
        return False
    assigned = [name.lower() for name in _ASSIGNED.findall(found["set"])]
    values = _ASSIGNED.sub(",", found["set"])
    return bool(assigned) and not any(re.search(rf"\b{name}\b", values, re.IGNORECASE) for name in assigned)


def _varies(code: str) -> bool:
    """Whether an expression may have another value the second time. Any call of a function counts."""
    return bool(_CALL.search(code) or _VOLATILE.search(code))

"""Splits a column's definition into parts, to separate what a step changes in it from manual changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMN = re.compile(
    r"""(?P<type>.+?)(?P<collation>\ COLLATE\ (?:"(?:[^"]|"")+"|\S+))?(?P<not_null>\ NOT\ NULL)?
    (?P<identity>\ GENERATED\ (?:ALWAYS|BY\ DEFAULT)\ AS\ IDENTITY)?
    (?P<value>\ (?:DEFAULT|GENERATED\ ALWAYS\ AS\ \().*)?(?P<bound>\ /\*.*)?""",
    re.VERBOSE | re.DOTALL,
)


class Parts(NamedTuple):
    """The parts of a column's definition. Joined, they are the definition again."""

    type: str
    collation: str
    not_null: str
    identity: str
    value: str
    bound: str

    @property
    def base(self) -> str:
        """The type without its length."""
        return re.sub(r"\(.*?\)", "", self.type)

    @property
    def generated(self) -> str:
        """How the column is generated, such as ` STORED`; empty if it is not."""
        return self.value.rpartition(")")[2] if "GENERATED" in self.value else ""


def parts(definition: str) -> Parts:
    """Split a definition from a snapshot into its parts. Any other text is taken as the type."""
    found = _COLUMN.fullmatch(definition)
    return Parts(*(part or "" for part in found.groups())) if found else Parts(definition, "", "", "", "", "")


def altered(old: str, new: str, here: str) -> str:
    """Return the column `here` after a change from `old` to `new`. Parts that do not change keep their value."""
    three = zip(parts(old), parts(new), parts(here), strict=True)
    return "".join(after if before != after else found for before, after, found in three)


def unalterable(old: str, new: str, here: str) -> bool:
    """Whether the change from `old` to `new` would have another effect on the column `here` than on `old`."""
    before, after, found = parts(old), parts(new), parts(here)
    strange = any(o != n and f not in (o, n) for o, n, f in zip(before, after, found, strict=True))
    cast = before.base != after.base and found.value != before.value
    return strange or cast or found.identity != before.identity


def retyped(old: str, new: str) -> bool:
    """Whether a change gives a column another type."""
    return parts(old).type != parts(new).type


def same_use(expected: str, found: str | None) -> bool:
    """Whether an expression that uses the column still means the same. `found` is None if the column is missing."""
    if found is None:
        return False
    old, new = parts(expected), parts(found)
    return old.base == new.base and old.generated == new.generated


def stands_for(rehearsed: Sequence[str], found: str) -> str:
    """Return the first rehearsed definition that has the column's value in every part that changes between them.

    If there is none, return the column's own definition.
    """
    candidates, own = [parts(text) for text in rehearsed], parts(found)
    moving = [place for place in range(len(own)) if len({each[place] for each in candidates}) > 1]
    same = (text for text, each in zip(rehearsed, candidates, strict=True) if all(each[n] == own[n] for n in moving))
    return next(same, found) if moving else found

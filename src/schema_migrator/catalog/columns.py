"""A column's definition taken apart, so that what a step changes of it can be told from what was changed by hand."""

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
    """A column's definition, taken apart; joined, the parts are the definition again."""

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
        """How the column is generated, empty where it is not."""
        return self.value.rpartition(")")[2] if "GENERATED" in self.value else ""


def parts(definition: str) -> Parts:
    """Take a definition apart, as a snapshot has it."""
    found = _COLUMN.fullmatch(definition)
    return Parts(*(part or "" for part in found.groups())) if found else Parts(definition, "", "", "", "", "")


def altered(old: str, new: str, here: str) -> str:
    """Return what a column becomes by a change from `old` to `new`: what that leaves alone stays as it is here."""
    three = zip(parts(old), parts(new), parts(here), strict=True)
    return "".join(after if before != after else found for before, after, found in three)


def unalterable(old: str, new: str, here: str) -> bool:
    """Whether the change from `old` to `new` would do something else to a column as it is here."""
    before, after, found = parts(old), parts(new), parts(here)
    strange = any(o != n and f not in (o, n) for o, n, f in zip(before, after, found, strict=True))
    cast = before.base != after.base and found.value != before.value
    return strange or cast or found.identity != before.identity


def retyped(old: str, new: str) -> bool:
    """Whether a change gives a column another type."""
    return parts(old).type != parts(new).type


def same_use(expected: str, found: str | None) -> bool:
    """Whether an expression of a column means the same as it did; None: the column is not there."""
    if found is None:
        return False
    old, new = parts(expected), parts(found)
    return old.base == new.base and old.generated == new.generated


def stands_for(rehearsed: Sequence[str], found: str) -> str:
    """Return the rehearsed definition that differs from a column in nothing that changes between them.

    The column's own definition, where there is none.
    """
    taken, mine = [parts(text) for text in rehearsed], parts(found)
    moving = [place for place in range(len(mine)) if len({one[place] for one in taken}) > 1]
    same = (text for text, one in zip(rehearsed, taken, strict=True) if all(one[n] == mine[n] for n in moving))
    return next(same, found) if moving else found

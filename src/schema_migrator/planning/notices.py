"""Notices about who owns a store's objects and who may use them. Pure functions of values to text.

A notice stops no run; only `refuse_unsettled` raises. What stops a plan is in `preflight`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.catalog.leftovers import TRIGGER
from schema_migrator.catalog.owners import grantee, grants, quoted
from schema_migrator.errors import NotOurs
from schema_migrator.releases.source import UNVERSIONED
from schema_migrator.releases.statements import created_tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from schema_migrator.catalog.leftovers import ForeignSchema
    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.planning.plan import Plan

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A fact about ownership or rights in a store: `event` names its kind, `remedy` says what to do, mostly in SQL."""

    event: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.found}: {self.remedy}"


def standing(whose: Ownership) -> tuple[Notice, ...]:
    """Return the notices that apply now, whatever the plan is."""
    return (*_schema(whose), *_strangers(whose.foreign_schemas), *_strays(whose), *_lacking(whose))


def ahead(plan: Plan, whose: Ownership) -> tuple[Notice, ...]:
    """Return the notices that apply now, and notices about the owner and rights that the plan's new tables will lack.

    If no version, or 0.0, is recorded, there are none about new tables.
    """
    texts = (statement.text for step in plan.steps for statement in step.statements)
    new = sorted(frozenset().union(*map(created_tables, texts)))
    if not new or plan.recorded in (None, UNVERSIONED):
        return standing(whose)
    return (*standing(whose), *_new_owner(plan, whose, new), *_new_rights(whose, new))


def refuse_unsettled(found: tuple[ForeignSchema, ...]) -> None:
    """Raise NotOurs if a table of the store has a trigger that looks like ours, but its schema is not ours."""
    for foreign in found:
        if foreign.watched:
            raise NotOurs(
                f'a trigger "{TRIGGER}" on "{foreign.watched}" calls a function in the schema "{foreign.name}" of'
                f' "{foreign.owner}", which is not ours: {foreign.why}',
                hint="nothing was touched; have that role remove it with migrate --abandon of the version that"
                " created it",
            )


def elsewhere(overview: Overview) -> str:
    """Return the other schemas that contain the store's tables, comma-separated; empty if search_path is set."""
    return "" if overview.whose.chosen else ", ".join(overview.facts.elsewhere)


def _schema(whose: Ownership) -> Iterator[Notice]:
    schema = quoted(whose.schema)
    if not whose.trusted:
        yield Notice(
            event="schema.owner",
            found=f'the schema {schema} belongs to "{whose.schema_owner}", who can drop whatever is in it',
            remedy=f"if that is not intended: ALTER SCHEMA {schema} OWNER TO {quoted(whose.role)};",
        )
    if whose.open_to:
        names = ", ".join(f'"{role}"' if role else "everybody" for role in whose.open_to)
        keep = "" if whose.makes_by_itself else f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {quoted(whose.role)}; "
        roles = ", ".join(map(grantee, whose.open_to))
        yield Notice(
            event="schema.writable_by_others",
            found=f"{names} may create functions and operators in the schema {schema}, which the vendor's statements"
            " could then call",
            remedy=f"{keep}REVOKE CREATE ON SCHEMA {schema} FROM {roles};",
        )


def _strangers(found: tuple[ForeignSchema, ...]) -> Iterator[Notice]:
    for foreign in found[:_SHOWN]:
        place = f'the schema "{foreign.name}" of "{foreign.owner}"'
        said = f"{place} looks like ours, but {foreign.why}"
        if foreign.watched:
            said = f'a trigger "{TRIGGER}" is on "{foreign.watched}" and calls a function in {place}, but {foreign.why}'
        yield Notice(event="schema.not_ours", found=said, remedy="it was not touched")
    if len(found) > _SHOWN:
        yield Notice(
            event="schema.not_ours",
            found=f"{len(found) - _SHOWN} more schemas look like ours and are not",
            remedy="they were not touched",
        )


def _strays(whose: Ownership) -> Iterator[Notice]:
    if not whose.strays:
        return
    schema, heir = quoted(whose.schema), whose.strays[0].heir
    names = ", ".join(f'{table.table} ("{table.owner}")' for table in whose.strays)
    yield Notice(
        event="tables.owners",
        found=f'most tables of the store belong to "{heir}", but these do not: {names}',
        remedy=" ".join(
            f"ALTER TABLE {schema}.{quoted(table.table)} OWNER TO {quoted(heir)};" for table in whose.strays
        ),
    )


def _lacking(whose: Ownership) -> Iterator[Notice]:
    lacking: list[tuple[str, str, Collection[str]]] = [
        (right.role, right.what, right.lacking) for right in whose.rights if right.lacking
    ]
    yield from _rights(whose, lacking, "has rights to most tables of the store, but not to all")


def _new_owner(plan: Plan, whose: Ownership, new: list[str]) -> Iterator[Notice]:
    if not whose.heir or plan.heir:
        return
    schema, heir, role = quoted(whose.schema), quoted(whose.heir), quoted(whose.role)
    yield Notice(
        event="tables.owners",
        found=f"the new tables {', '.join(new)} will belong to {role} and not to {heir}, as the other tables do, so"
        f" that {heir} may not use them",
        remedy=f"run it as {heir}, or let {role} give them away:"
        f" GRANT CREATE ON SCHEMA {schema} TO {heir}; GRANT {heir} TO {role};",
    )


def _new_rights(whose: Ownership, new: list[str]) -> Iterator[Notice]:
    lacking: list[tuple[str, str, Collection[str]]] = [
        (right.role, right.what, new) for right in whose.rights if not right.given
    ]
    yield from _rights(
        whose, lacking, f"will have no right to the new tables {', '.join(new)}, as it has to the others"
    )


def _rights(whose: Ownership, lacking: list[tuple[str, str, Collection[str]]], words: str) -> Iterator[Notice]:
    for role in sorted({role for role, _, _ in lacking}):
        remedy = " ".join(grants(whose.schema, [right for right in lacking if right[0] == role]))
        who = "everybody (PUBLIC)" if role == "public" else f'the role "{role}"'
        yield Notice(event="tables.rights", found=f"{who} {words}", remedy=remedy)


def place_json(whose: Ownership) -> dict[str, str | None]:
    """Return the store's schema and its owner as JSON, null if unknown."""
    return {"schema": whose.schema or None, "schema_owner": whose.schema_owner or None}


def notices_json(found: Iterable[Notice]) -> list[dict[str, str]]:
    """Return notices as JSON objects: event, found, remedy."""
    return [{"event": notice.event, "found": notice.found, "remedy": notice.remedy} for notice in found]


def place_text(whose: Ownership) -> str:
    """Return the store's schema and its owner in words."""
    return f'"{whose.schema}", which "{whose.schema_owner}" owns'

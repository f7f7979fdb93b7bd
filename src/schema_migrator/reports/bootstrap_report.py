"""What was waited for, and what was done to namespaces, as text and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schema_migrator.commands.wait import Ready
    from schema_migrator.temporal.namespaces import NamespaceResult


def ready_json(found: tuple[Ready, ...]) -> str:
    """Return what is ready as JSON; `store`, `version` and `target` only where there are any."""
    return json.dumps({"ready": [_ready(one) for one in found]}, indent=2)


def ready_text(found: tuple[Ready, ...]) -> str:
    """Return a line for each thing that is ready."""
    return "\n".join(map(_line, found))


def _ready(one: Ready) -> dict[str, str]:
    more = {"store": one.store, "version": one.version, "target": one.target}
    return {"waited_for": str(one.aim), "address": one.place} | {k: str(v) for k, v in more.items() if v is not None}


def _line(one: Ready) -> str:
    whose = f"{one.store} {one.aim}" if one.store else str(one.aim)
    version = f" at {one.version}, expected {one.target} or above" if one.version else ""
    return f"{whose}: {one.place} is ready{version}"


def namespaces_json(done: tuple[NamespaceResult, ...], checked: tuple[str, ...]) -> str:
    """Return what was done to each namespace, and the names that were looked for and found, as JSON."""
    return json.dumps({"namespaces": [_namespace(one) for one in done], "checked": list(checked)}, indent=2)


def namespaces_text(done: tuple[NamespaceResult, ...], checked: tuple[str, ...]) -> str:
    """Return a table of what was done to each namespace, and a line for each name that was looked for and found."""
    from schema_migrator.reports.report import table  # noqa: PLC0415 - slow to load, and JSON does without it

    tables = [table(("namespace", "done"), ((one.name, _done(one)) for one in done))] if done else []
    return "\n".join([*tables, *(f'namespace "{name}" exists' for name in checked)])


def _namespace(one: NamespaceResult) -> dict[str, Any]:
    return {
        "name": one.name,
        "created": one.created,
        "updated": one.updated,
        "differences": [{"field": d.field, "found": d.found, "expected": d.wanted} for d in one.differences],
        "search_attributes_added": list(one.attributes_added),
    }


def _done(one: NamespaceResult) -> str:
    said = ["created"] if one.created else []
    said += [
        f"{d.field} changed from {d.found or 'none'} to {d.wanted}"
        if one.updated
        else f"{d.field} is {d.found or 'none'}, wanted {d.wanted}: --update changes it"
        for d in one.differences
    ]
    said += [f"search attribute {name} added" for name in one.attributes_added]
    return "\n".join(said) or "as specified"

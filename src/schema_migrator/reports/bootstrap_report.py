"""What was waited for, and what was done to namespaces, as text and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from schema_migrator.reports.layout import Table, Toned
from schema_migrator.terminal import Tone

if TYPE_CHECKING:
    from schema_migrator.commands.wait import Ready
    from schema_migrator.reports.layout import Cell, Report
    from schema_migrator.temporal.namespaces import NamespaceResult


def ready_json(found: tuple[Ready, ...]) -> str:
    """Return what is ready as JSON; `store`, `version` and `target` only if there are any."""
    return json.dumps({"ready": [_ready(ready) for ready in found]}, indent=2)


def ready_text(found: tuple[Ready, ...]) -> Report:
    """Return a line for each thing that is ready."""
    return tuple(Toned(_line(ready), Tone.GOOD) for ready in found)


def _ready(ready: Ready) -> dict[str, str]:
    more = {"store": ready.store, "version": ready.version, "target": ready.target}
    return {"waited_for": str(ready.aim), "address": ready.place} | {
        k: str(v) for k, v in more.items() if v is not None
    }


def _line(ready: Ready) -> str:
    whose = f"{ready.store} {ready.aim}" if ready.store else str(ready.aim)
    version = f" at {ready.version}, expected {ready.target} or above" if ready.version else ""
    return f"{whose}: {ready.place} is ready{version}"


def namespaces_json(done: tuple[NamespaceResult, ...], checked: tuple[str, ...]) -> str:
    """Return what was done to each namespace, and the names that were looked for and found, as JSON."""
    return json.dumps({"namespaces": [_namespace(result) for result in done], "checked": list(checked)}, indent=2)


def namespaces_text(done: tuple[NamespaceResult, ...], checked: tuple[str, ...]) -> Report:
    """Return a table of what was done to each namespace, and a line for each name that was looked for and found."""
    tables = [Table(("namespace", "done"), tuple((result.name, _done(result)) for result in done))] if done else []
    return (*tables, *(Toned(f'namespace "{name}" exists', Tone.GOOD) for name in checked))


def _namespace(result: NamespaceResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "created": result.created,
        "updated": result.updated,
        "differences": [{"field": d.field, "found": d.found, "expected": d.wanted} for d in result.differences],
        "search_attributes_added": list(result.attributes_added),
    }


def _done(result: NamespaceResult) -> Cell:
    done = ["created"] if result.created else []
    done += [f"{d.field} changed from {d.found or 'none'} to {d.wanted}" for d in result.differences if result.updated]
    done += [f"search attribute {name} added" for name in result.attributes_added]
    left = () if result.updated else result.differences
    words = [f"{d.field} is {d.found or 'none'}, wanted {d.wanted}: --update changes it" for d in left]
    lines = (*(Toned(text, Tone.PENDING) for text in words), *(Toned(text, Tone.GOOD) for text in done))
    return lines or Toned("as specified", Tone.GOOD)

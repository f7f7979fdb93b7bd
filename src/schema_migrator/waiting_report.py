"""What was waited for, as text and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schema_migrator.wait import Ready


def ready_json(found: tuple[Ready, ...]) -> str:
    """Return what is ready as JSON; `store`, `version` and `target` only where there are any."""
    return json.dumps({"ready": [_ready(one) for one in found]}, indent=2)


def ready_text(found: tuple[Ready, ...]) -> str:
    """Return a line for each thing that is ready."""
    return "\n".join(map(_line, found))


def _ready(one: Ready) -> dict[str, str]:
    more = {"store": one.store, "version": one.version, "target": one.target}
    return {"for": str(one.aim), "place": one.place} | {k: str(v) for k, v in more.items() if v is not None}


def _line(one: Ready) -> str:
    whose = f"{one.store} {one.aim}" if one.store else str(one.aim)
    version = f" at {one.version}, expected {one.target} or above" if one.version else ""
    return f"{whose}: {one.place} is ready{version}"

"""Which servers a store supports, as text for people and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schema_migrator.commands.server_support import ServerSupport


def servers_json(found: ServerSupport) -> dict[str, Any]:
    """Return the newest servers that start, as full versions, and those that are alive."""
    return {
        "newest_now": found.startable.newest_now,
        "newest_after": found.startable.newest_after,
        "alive": None if found.alive is None else dict(found.alive),
        "running": found.running,
    }


def servers_text(found: ServerSupport) -> tuple[str, ...]:
    """Return a line with the servers that start, and one with those that are alive."""
    lines = [_starting(found)] if found.startable.now or found.startable.after else []
    if found.alive is not None:
        lines.append(f"servers alive: {_counts(found)}")
    if found.running:
        lines.append(f"the frontend reports server {found.running}")
    return tuple(lines)


def _starting(found: ServerSupport) -> str:
    now, after = found.startable.now, found.startable.after
    if now == after or after is None:
        return f"servers up to {now} start"
    if now is None:
        return f"servers up to {after} start afterwards"
    return f"servers up to {now} start now, up to {after} afterwards"


def _counts(found: ServerSupport) -> str:
    return ", ".join(f"{count} {role}" for role, count in (found.alive or {}).items()) or "none"

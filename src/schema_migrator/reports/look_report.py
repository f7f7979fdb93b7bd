"""From where a result comes: the moment that a standby shows, and the other server on which was rehearsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schema_migrator.config import sizes

if TYPE_CHECKING:
    from schema_migrator.catalog.standby import Standby
    from schema_migrator.diagnosis.stage import Rehearsed


def look_json(standby: Standby | None, rehearsed: Rehearsed | None) -> dict[str, Any]:
    """Return both as fields of a result; null for a primary server, and if nothing was rehearsed elsewhere."""
    return {
        "standby": None
        if standby is None
        else {
            "replayed_lsn": standby.replayed,
            "received_lsn": standby.received,
            "behind_bytes": standby.behind,
            "last_transaction_seconds": None if standby.seconds is None else round(standby.seconds, 3),
            "receiving": standby.receiving,
            "paused": standby.paused,
        },
        "rehearsed_on": None
        if rehearsed is None
        else {"server": rehearsed.name, "version": rehearsed.version, "differences": list(rehearsed.differences)},
    }


def look_text(standby: Standby | None, rehearsed: Rehearsed | None) -> list[str]:
    """Return a line for each of the two that there is."""
    return [
        *([_standby(standby)] if standby else []),
        *([_rehearsed(rehearsed)] if rehearsed else []),
    ]


def _standby(found: Standby) -> str:
    unknown = "it is unknown how much of the received WAL is not replayed"
    state = [
        unknown if found.behind is None else f"{sizes.text(found.behind)} of the received WAL not replayed",
        *([] if found.seconds is None else [f"last transaction {found.seconds:.0f} s ago"]),
        *([] if found.receiving else ["it receives no WAL now"]),
        *(["its replay is paused"] if found.paused else []),
    ]
    return f"a standby, as of LSN {found.replayed}: {'; '.join(state)}"


def _rehearsed(found: Rehearsed) -> str:
    differs = f"; it has {', '.join(found.differences)}" if found.differences else ""
    return f"rehearsed on {found.name}, PostgreSQL {found.version}{differs}"

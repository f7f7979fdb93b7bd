"""What `plan` says about the server: each check before an online rewrite, with what it sees or cannot see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schema_migrator.config import sizes
from schema_migrator.online import budgets, disk, replicas

if TYPE_CHECKING:
    from schema_migrator.config.fields import RunSettings
    from schema_migrator.online.archive import Archive
    from schema_migrator.online.prechecks import ServerConditions
    from schema_migrator.online.replicas import Replica
    from schema_migrator.planning.plan import Online


def checks_json(online: Online, run: RunSettings, found: ServerConditions) -> dict[str, Any]:
    """Return the checks as JSON; null stands for what cannot be seen or is not watched."""
    seen, need = found.replicas, disk.need(online)
    return {
        "replicas": None
        if seen is None
        else {
            "limit_bytes": run.max_replica_lag,
            "connected": [
                {
                    "name": replica.name,
                    "slot": replica.slot,
                    "pid": replica.pid,
                    "logical": replica.logical,
                    "behind_bytes": replica.behind,
                }
                for replica in seen.seen
            ],
            "slot_limit_bytes": run.max_slot_wal,
            "slots": [
                {"name": slot.name, "idle": slot.idle, "kept_bytes": slot.kept, "left_bytes": slot.left}
                for slot in seen.slots
            ],
            "excluded": list(seen.left_out),
            "unmatched_exclusions": list(seen.unmatched),
        },
        "archive": _archive_json(run, found.archive),
        "load": None if run.max_load is None else {"limit": run.max_load, "active": found.active},
        "hidden_sessions": dict(found.hidden),
        "disk": {
            "needed_bytes": need.total,
            "needed_data_bytes": need.data,
            "needed_wal_bytes": need.wal,
            "free_bytes": found.free.data if found.free else None,
            "free_wal_bytes": found.free.wal if found.free else None,
        },
    }


def _archive_json(run: RunSettings, found: Archive | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "limit_bytes": run.max_archive_lag,
        "behind_bytes": found.behind,
        "failed_segment": found.failed or None,
        "seconds_since_success": found.seconds,
    }


def checks_text(online: Online, run: RunSettings, found: ServerConditions) -> list[str]:
    """Return a line for each check."""
    return [
        *_disk(online, found),
        *_replicas(run, found),
        *_standbys(online, found),
        *_archive(run, found),
        *_load(run, found),
        *_hidden(found),
    ]


def _disk(online: Online, found: ServerConditions) -> list[str]:
    need, free = disk.need(online), found.free
    basis = f"{disk.MARGIN:g} times the forecast" if online.forecast else "not measured; based on the table's size"
    wanted = f"disk: the rewrite needs {sizes.text(need.total)} free, half of it for WAL ({basis})"
    if free is None:
        return [f"{wanted}; the free space is unknown: set --disk-free, or let the server run df"]
    apart = "" if free.wal is None else f", and {sizes.text(free.wal)} on the disk of pg_wal"
    return [f"{wanted}; {sizes.text(free.data)} are free{apart}"]


def _replicas(run: RunSettings, found: ServerConditions) -> list[str]:
    if found.replicas is None or run.max_replica_lag is None:
        return ["replicas: not watched (--max-replica-lag off)"]
    seen, limit = found.replicas, sizes.text(run.max_slot_wal) if run.max_slot_wal is not None else "off"
    said = "; ".join(_behind(replica) for replica in seen.seen) or "none is connected"
    lines = [f"replicas: {said}; the limit is {sizes.text(run.max_replica_lag)}"]
    lines += [f"ignored replicas: {', '.join(seen.left_out)}"] if seen.left_out else []
    lines += [f"replicas: {replicas.remedy(found.role)}"] if seen.unseen else []
    lines += [f'--ignore-replica "{name}" is the name of no replica and no slot' for name in seen.unmatched]
    return lines + [
        f'slot "{slot.name}": nothing reads it, and it retains {sizes.text(slot.kept)} of WAL; a rewrite adds'
        f" all its WAL; the limit is {limit}"
        for slot in seen.idle
    ]


def _standbys(online: Online, found: ServerConditions) -> list[str]:
    standbys = found.replicas.standbys if found.replicas else ()
    if not standbys:
        return []
    names = ", ".join(replica.said for replica in standbys)
    said = f"standbys: {names} will replay the cutover's lock"
    return [f'{said}; a query on "{online.table}" there is then cancelled after max_standby_streaming_delay']


def _behind(replica: Replica) -> str:
    if replica.behind is None:
        return f"{replica.said} (pid {replica.pid}) cannot be seen by this role"
    return f"{replica.said} is {sizes.text(replica.behind)} behind"


def _archive(run: RunSettings, found: ServerConditions) -> list[str]:
    if run.max_archive_lag is None:
        return ["WAL archive: not watched (--max-archive-lag off)"]
    if found.archive is None:
        return ["WAL archive: the server has none"]
    behind = "its lag cannot be seen" if found.archive.behind is None else f"{sizes.text(found.archive.behind)} behind"
    failed = f"; its last attempt, {found.archive.failed}, failed" if found.archive.failed else ""
    return [f"WAL archive: {behind}; the limit is {sizes.text(run.max_archive_lag)}{failed}"]


def _load(run: RunSettings, found: ServerConditions) -> list[str]:
    if run.max_load is None:
        return ["load: not watched (no --max-load)"]
    seen = f"{found.active} sessions of others are active" if found.active is not None else "this role cannot see it"
    return [f"load: {seen}; the limit is {run.max_load}"]


def _hidden(found: ServerConditions) -> list[str]:
    if not found.hidden:
        return []
    who = ", ".join(f'{count} of "{role}"' for role, count in found.hidden)
    said = f"sessions that this role cannot inspect: {who}; if one has an old transaction, the cutover waits for it"
    return [f"{said}; to see them: {budgets.grant(found.role)}"]

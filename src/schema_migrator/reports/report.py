"""Results as reports for people and as JSON for programs."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any, assert_never

from schema_migrator.diagnosis.repair import repair
from schema_migrator.diagnosis.state import Absent, At, Between, Unknown, Unrecorded
from schema_migrator.planning import notices
from schema_migrator.planning.notices import notices_json, place_json, place_text
from schema_migrator.releases.library import ranges
from schema_migrator.reports.layout import Table, Toned, Verbatim
from schema_migrator.reports.look_report import look_json, look_text
from schema_migrator.terminal import Tone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema_migrator.catalog.snapshot import Change
    from schema_migrator.commands.abandon import Removal
    from schema_migrator.commands.migrate import Migration
    from schema_migrator.config.accepted import AcceptedDifference
    from schema_migrator.diagnosis.acceptance import AcceptedChange, UnusedEntry
    from schema_migrator.diagnosis.state import State
    from schema_migrator.diagnosis.verdict import Verdict
    from schema_migrator.releases.source import Release
    from schema_migrator.reports.layout import Cell, Line, Report
    from schema_migrator.runs.point_of_return import PointOfReturn

_KILO = 1024


def to_json(stores: Iterable[dict[str, Any]]) -> str:
    """Return the document that every command prints with `--output json`."""
    return json.dumps({"stores": list(stores)}, indent=2)


def releases_json(found: tuple[Release, ...]) -> str:
    """Return the releases as JSON."""
    return json.dumps({"releases": [_release(release) for release in found]}, indent=2)


def releases_text(found: tuple[Release, ...]) -> Report:
    """Return a table of releases, with a line for consecutive versions that have the same files."""
    rows: list[tuple[str, str, str]] = []
    for _, group in groupby(found, lambda release: release.folder.resolve()):
        shared = tuple(group)
        targets = str(shared[0].default.latest), str(shared[0].visibility.latest)
        rows += [(versions, *targets) for versions in ranges([release.version for release in shared])]
    return (Table(("server", "default schema", "visibility schema"), tuple(rows)),)


def _release(release: Release) -> dict[str, str]:
    return {
        "server": release.version,
        "default": str(release.default.latest),
        "visibility": str(release.visibility.latest),
        "files": str(release.folder.resolve()),
    }


def state_name(state: State) -> str:
    """Return the state's name in JSON: tables of an unrecorded version are unknown until they are adopted."""
    match state:
        case Absent():
            return "absent"
        case At():
            return "at"
        case Between():
            return "between"
        case Unrecorded() | Unknown():
            return "unknown"
        case _:
            assert_never(state)


def recorded_version(state: State) -> str | None:
    """Return the recorded version."""
    match state:
        case Absent():
            return None
        case At() | Between():
            recorded = state.version
        case Unrecorded() | Unknown():
            recorded = state.recorded
        case _:
            assert_never(state)
    return None if recorded is None else str(recorded)


def removals_text(found: tuple[Removal, ...]) -> Report:
    """Return what was removed, one line per store."""
    return tuple(
        f'{removal.store} store, database "{removal.database}": '
        + (", ".join(f'schema "{left.name}" removed' for left in removal.removed) or "nothing to remove")
        for removal in found
    )


def removal_json(found: Removal) -> dict[str, Any]:
    """Return what was removed from a store as JSON."""
    removed = [left.name for left in found.removed]
    return {"store": str(found.store), "database": found.database, "removed": removed}


def verify_json(found: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON."""
    return {
        "store": str(found.store),
        "database": found.database,
        "version": str(found.version),
        "target": str(found.target),
        "ahead": found.ahead,
        "equal": found.equal,
        "missing": [_change(change, _repair(found, change)) for change in found.difference.missing],
        "different": [_change(change, _repair(found, change)) for change in found.difference.different],
        "extra": [_change(change, None) for change in found.difference.extra],
        "accepted": [_accepted(accepted) for accepted in found.accepted],
        "unused_acceptances": [{**_entry(unused.entry), "why": unused.why} for unused in found.unused],
        "missing_history": [str(version) for version in found.unlisted],
        "unreadable": list(found.whose.unreadable),
        **look_json(found.standby, found.rehearsed),
        "notices": notices_json(notices.standing(found.whose)),
    }


def _repair(found: Verdict, change: Change) -> str:
    return "\n".join(repair(change, found.schema))


def _change(change: Change, repair: str | None) -> dict[str, str | None]:
    return {
        "kind": change.key.kind,
        "table": change.key.parent or None,
        "name": change.key.name,
        "expected": change.expected,
        "found": change.found,
        "repair": repair,
    }


def _accepted(found: AcceptedChange) -> dict[str, str | None]:
    return {**_change(found.change, None), **_entry(found.entry)}


def _entry(entry: AcceptedDifference) -> dict[str, str | None]:
    return {
        "object": entry.object,
        "accept": str(entry.accept),
        "reason": entry.reason,
        "until": str(entry.until) if entry.until else None,
    }


def verify_text(found: Verdict) -> Report:
    """Return a verdict as lines: what is missing or different, with the SQL that repairs it, extra, and accepted."""
    version = f"{found.version} (ahead of the target {found.target})" if found.ahead else str(found.version)
    heading = f'{found.store} store, database "{found.database}", version {version}: '
    matches = f"matches, except for {len(found.accepted)} accepted" if found.accepted else "matches"
    verdict = Toned(matches, Tone.GOOD, heading) if found.equal else Toned("does NOT match", Tone.REFUSED, heading)
    lacking = ", ".join(str(version) for version in found.unlisted)
    return (
        verdict,
        *(piece for change in found.difference.missing for piece in _missing(change, found)),
        *(piece for change in found.difference.different for piece in _different(change, found)),
        *(f"  extra      {_line(str(change.key))} (tolerated)" for change in found.difference.extra),
        *(f"  accepted   {_accepted_text(accepted)}" for accepted in found.accepted),
        *(Toned(f"  unused     {_unused_text(unused)}", Tone.PENDING) for unused in found.unused),
        *(Toned(f"  unreadable {table}", Tone.REFUSED) for table in found.whose.unreadable),
        *(f"  {line}" for line in look_text(found.standby, found.rehearsed)),
        *(f"  {notice}" for notice in notices.standing(found.whose)),
        *([f"  not in schema_update_history: {lacking} (no harm)"] if lacking else []),
    )


def _accepted_text(found: AcceptedChange) -> str:
    until = f", until {found.entry.until}" if found.entry.until else ""
    return f"{_line(found.entry.object)} is {found.entry.accept}{until}: {_line(found.entry.reason)}"


def _unused_text(found: UnusedEntry) -> str:
    return f"{_line(found.entry.object)}, accepted as {found.entry.accept}: {_line(found.why)}"


def _missing(change: Change, found: Verdict) -> tuple[Line | Verbatim, ...]:
    named = Toned(f"  missing    {_line(str(change.key))}", Tone.REFUSED)
    return named, _shown("repair", *repair(change, found.schema))


def _different(change: Change, found: Verdict) -> tuple[Line | Verbatim, ...]:
    return (
        Toned(f"  different  {_line(str(change.key))}", Tone.PENDING),
        _shown("expected", "none" if change.expected is None else _line(change.expected)),
        _shown("found", _line(change.found or "")),
        _shown("repair", *repair(change, found.schema)),
    )


def _line(text: str) -> str:
    """Return a name or a definition on one line: with line ends of its own it could look like a repair."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _shown(name: str, *pieces: str) -> Verbatim:
    """Return the pieces below each other; the lines within one stay as they are, for a function's body has them."""
    return Verbatim(f"{' ' * 13}{name + ':':<10}" + f"\n{' ' * 23}".join(pieces))


def migration_json(done: Migration) -> dict[str, Any]:
    """Return what was done to a store as JSON; `version` is the version that it is at now."""
    reached = done.outcomes[-1].version if done.outcomes else done.plan.version
    return {
        "store": str(done.plan.store),
        "database": done.plan.database,
        **place_json(done.whose),
        "state": "at",
        "from": recorded_version(done.plan.state),
        "version": str(reached),
        "target": str(done.plan.target),
        "up_to_date": True,
        "steps": [str(outcome.version) for outcome in done.outcomes],
        "rebuilt_indexes": list(done.rebuilt),
        "seconds": round(done.seconds, 3),
        "verified": done.verdict.equal if done.verdict else None,
        "point_of_return": _point(done.point) if done.point else None,
        "backup": done.backup.isoformat() if done.backup else None,
        "notices": notices_json(notices.standing(done.whose)),
    }


def _point(found: PointOfReturn) -> dict[str, Any]:
    return {"time": found.time.isoformat(), "lsn": found.lsn, "timeline": found.timeline}


def migration_text(done: tuple[Migration, ...]) -> Report:
    """Return a table of what was done."""
    return (Table(("store", "database", "before", "now", "done"), tuple(map(_migration_row, done))),)


def _migration_row(done: Migration) -> tuple[Cell, ...]:
    row = migration_json(done)
    count = len(done.outcomes)
    what = f"{count} step{'s' * (count != 1)} in {done.seconds:.1f} s" if done.outcomes else "nothing to do"
    if done.rebuilt:
        again = f"{len(done.rebuilt)} invalid index{'es' * (len(done.rebuilt) > 1)} rebuilt"
        what = f"{again}, {what}" if done.outcomes else again
    if done.plan.adopt is not None:
        what = f"version {done.plan.adopt.version} recorded" + (f", {what}" if done.outcomes else "")
    if done.verdict is not None:
        what += ", verified" if done.verdict.equal else ", DIFFERS: see schema-migrator verify"
    where = [f"in the schema {place_text(done.whose)}"] if done.whose.schema_owner else []
    tone = Tone.GOOD if done.verdict is None or done.verdict.equal else Tone.PENDING
    return row["store"], row["database"], row["from"] or "-", row["version"], (Toned(what, tone), *where)


def size_text(count: int) -> str:
    """Return a number of bytes in words."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < _KILO:
            return f"{value:.0f} {unit}"
        value /= _KILO
    return f"{value:.1f} GB"

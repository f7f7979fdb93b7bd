"""Where the stores are, as text for people and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from schema_migrator.config import chart
from schema_migrator.diagnosis.state import Absent, At, Between, Unknown, Unrecorded
from schema_migrator.planning import notices
from schema_migrator.planning.notices import notices_json, place_json, place_text
from schema_migrator.reports.layout import Table, Toned
from schema_migrator.reports.look_report import look_json, look_text
from schema_migrator.reports.report import recorded_version, size_text, state_name
from schema_migrator.reports.rewrite_report import control_json, copied_text, phase_text
from schema_migrator.reports.servers_report import servers_json, servers_text
from schema_migrator.terminal import Tone

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.commands.status import StoreStatus
    from schema_migrator.diagnosis.state import State
    from schema_migrator.reports.layout import Cell, Line, Report

_LARGE_LOG = 2**30  # bytes


def status_json(found: StoreStatus) -> dict[str, Any]:
    """Return a store's status as JSON; `version` is what is recorded."""
    return {
        "store": str(found.store),
        "database": found.database,
        **place_json(found.whose),
        "state": state_name(found.state),
        "version": recorded_version(found.state),
        "target": str(found.target),
        "files": found.files or None,
        "required": str(found.needed),
        "up_to_date": found.up_to_date,
        **_particulars(found.state),
        "missing_history": [str(version) for version in found.unlisted],
        "invalid_indexes": list(found.invalid),
        "tables_without_primary_key": list(found.keyless),
        "online": [_leftover(leftover, found) for leftover in found.whose.leftovers],
        "other_schemas": found.elsewhere or None,
        "servers": servers_json(found.servers) if found.servers else None,
        **look_json(found.standby, found.rehearsed),
        "notices": notices_json(notices.standing(found.whose)),
    }


def _leftover(leftover: Leftover, found: StoreStatus) -> dict[str, Any]:
    state = "unfinished" if leftover.unfinished else "kept" if leftover.kept else "done"
    own = found.rewrite_of(leftover)
    rows = {
        "rows_copied": own.copied if own else 0,
        "log_bytes": leftover.log_bytes,
        "trigger_active": leftover.watching,
        "control": control_json(own) if own else None,
    }
    return {
        "schema": leftover.name,
        "table": leftover.table,
        "target": leftover.target or None,
        "state": state,
        "comment_missing": leftover.lost,
        **(rows if leftover.unfinished else {}),
    }


def _particulars(state: State) -> dict[str, Any]:
    match state:
        case Between():
            return {"step": str(state.step), "statements_applied": state.done, "statements_total": state.total}
        case Unrecorded():
            return {"schema_version_of_tables": str(state.version), "auto_adopt": state.confirmed}
        case Unknown():
            return {"reason": state.reason}
        case _:
            return {}


def status_text(found: tuple[StoreStatus, ...]) -> Report:
    """Return a table of stores, followed by where the files are and the notices for each."""
    heads = ("store", "database", "version", "target", "state and what migrate does")
    rows = [(str(s.store), s.database, recorded_version(s.state) or "-", str(s.target), _verdict(s)) for s in found]
    files = dict.fromkeys(f"files of release {s.release}: {s.files}" for s in found if s.files)
    seen = [f"{s.store}: {line}" for s in found for line in look_text(s.standby, s.rehearsed)]
    told = [f"{s.store}: {notice}" for s in found for notice in notices.standing(s.whose)]
    return (Table(heads, tuple(rows)), *files, *seen, *told)


def _verdict(found: StoreStatus) -> Cell:
    where = [f"in the schema {place_text(found.whose)}"] if found.whose.schema_owner else []
    support = servers_text(found.servers) if found.servers else ()
    text, tone = _state(found)
    return (Toned(text, tone), *where, *support, *(_left(leftover, found) for leftover in found.whose.leftovers))


def _state(found: StoreStatus) -> tuple[str, Tone]:
    state, tone = found.state, Tone.PENDING
    if found.elsewhere:
        words = "empty" if isinstance(state, Absent) else "not alone"
        text = f"{words}: refuses: tables of the store are in the schema {found.elsewhere}; set search_path to choose"
        return text, Tone.REFUSED
    match state:
        case Absent():
            text = "empty: installs it"
        case At():
            text, tone = _where(found, state.version)
        case Between():
            text = f"half-applied: {state.step}, {state.done} of {state.total} statements: resumes it"
        case Unrecorded():
            way = "records it and continues" if state.confirmed else f"refuses without {chart.named('--adopt')}"
            text, tone = f"the tables match {state.version}: {way}", Tone.PENDING if state.confirmed else Tone.REFUSED
        case Unknown():
            text, tone = f"unknown: refuses: {state.reason}", Tone.REFUSED
        case _:
            assert_never(state)
    lacking = ", ".join(str(version) for version in found.unlisted)
    return text + (f" (not in the history: {lacking})" if lacking else ""), tone


def _where(found: StoreStatus, version: Version) -> tuple[str, Tone]:
    if found.keyless:
        return f"refuses: no primary key: {', '.join(found.keyless)}", Tone.REFUSED
    if version < found.target:
        return "behind: upgrades it", Tone.PENDING
    if found.invalid:
        what, them = ("index", "it") if len(found.invalid) == 1 else ("indexes", "them")
        return f"at target, {len(found.invalid)} invalid {what}: migrate rebuilds {them}", Tone.PENDING
    if found.too_old_for_servers:
        text = f"at target, but servers of release {found.release} need {found.needed} and will not start"
        return text, Tone.REFUSED
    return "ahead of the target: nothing" if version > found.target else "at target: nothing", Tone.GOOD


def _left(leftover: Leftover, found: StoreStatus) -> Line:
    logs = (
        f"; its trigger logs every write to the table, {size_text(leftover.log_bytes)} so far"
        if leftover.watching
        else ""
    )
    if leftover.unfinished and leftover.lost:
        text = (
            f'online rewrite of {leftover.table or "a table"} in "{leftover.name}" unfinished, and its comment'
            " is missing"
            f"{logs}: the next migrate, or migrate --abandon, removes it"
        )
        return Toned(text, Tone.PENDING)
    if leftover.unfinished:
        own = found.rewrite_of(leftover)
        done = f" ({phase_text(own)}), {copied_text(own.copied)}" if own else ""
        text = (
            f"online rewrite of {leftover.table} to {leftover.target} unfinished{done}{logs}:"
            " migrate resumes it, migrate --abandon removes it"
        )
        return Toned(text, Tone.REFUSED if leftover.log_bytes > _LARGE_LOG else Tone.PENDING)
    if leftover.kept:
        return f'the old {leftover.table} is kept in the schema "{leftover.name}": migrate --abandon removes it'
    return f'the schema "{leftover.name}" was left by an online rewrite: the next migrate removes it'

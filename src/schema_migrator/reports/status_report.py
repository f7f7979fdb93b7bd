"""Where the stores are, as text for people and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from schema_migrator.config import chart
from schema_migrator.diagnosis.state import Absent, At, Between, Unknown, Unrecorded
from schema_migrator.planning import notices
from schema_migrator.planning.notices import notices_json, place_json, place_text
from schema_migrator.reports.report import recorded_version, size_text, state_name, table

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.commands.status import StoreStatus
    from schema_migrator.diagnosis.state import State


def status_json(found: StoreStatus) -> dict[str, Any]:
    """Return a store's status as JSON; `version` is what is recorded."""
    return {
        "store": str(found.store),
        "database": found.database,
        **place_json(found.whose),
        "state": state_name(found.state),
        "version": recorded_version(found.state),
        "target": str(found.target),
        "required": str(found.needed),
        "up_to_date": found.up_to_date,
        **_particulars(found.state),
        "missing_history": [str(version) for version in found.unlisted],
        "invalid_indexes": list(found.invalid),
        "tables_without_primary_key": list(found.keyless),
        "online": [_leftover(one, found.copied) for one in found.whose.leftovers],
        "other_schemas": found.elsewhere or None,
        "notices": notices_json(notices.standing(found.whose)),
    }


def _leftover(one: Leftover, copied: int) -> dict[str, Any]:
    state = "unfinished" if one.unfinished else "kept" if one.kept else "done"
    rows = {"rows_copied": copied, "log_bytes": one.log_bytes, "trigger_active": one.watching} if one.unfinished else {}
    return {
        "schema": one.name,
        "table": one.table,
        "target": one.target or None,
        "state": state,
        "comment_missing": one.lost,
        **rows,
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


def status_text(found: tuple[StoreStatus, ...]) -> str:
    """Return a table of stores, and below it what a person should know of each."""
    rows = [(str(s.store), s.database, recorded_version(s.state) or "-", str(s.target), _verdict(s)) for s in found]
    told = [f"{s.store}: {one}" for s in found for one in notices.standing(s.whose)]
    return "\n".join([table(("store", "database", "version", "target", "state and what migrate does"), rows), *told])


def _verdict(found: StoreStatus) -> str:
    where = [f"in the schema {place_text(found.whose)}"] if found.whose.schema_owner else []
    return "\n".join([_state(found), *where, *(_left(one, found.copied) for one in found.whose.leftovers)])


def _state(found: StoreStatus) -> str:
    state = found.state
    if found.elsewhere:
        words = "empty" if isinstance(state, Absent) else "not alone"
        return f"{words}: refuses: tables of the store are in the schema {found.elsewhere}; set search_path to choose"
    match state:
        case Absent():
            text = "empty: installs it"
        case At():
            text = _where(found, state.version)
        case Between():
            text = f"half-applied: {state.step}, {state.done} of {state.total} statements: resumes it"
        case Unrecorded():
            way = "records it and continues" if state.confirmed else f"refuses without {chart.named('--adopt')}"
            text = f"the tables match {state.version}: {way}"
        case Unknown():
            text = f"unknown: refuses: {state.reason}"
        case _:
            assert_never(state)
    lacking = ", ".join(str(version) for version in found.unlisted)
    return text + (f" (not in the history: {lacking})" if lacking else "")


def _where(found: StoreStatus, version: Version) -> str:
    if found.keyless:
        return f"refuses: no primary key: {', '.join(found.keyless)}"
    if version < found.target:
        return "behind: upgrades it"
    if found.invalid:
        what, them = ("index", "it") if len(found.invalid) == 1 else ("indexes", "them")
        return f"at target, {len(found.invalid)} invalid {what}: migrate rebuilds {them}"
    if found.too_old_for_servers:
        return f"at target, but servers of release {found.release} need {found.needed} and will not start"
    return "ahead of the target: nothing" if version > found.target else "at target: nothing"


def _left(one: Leftover, copied: int) -> str:
    logs = f"; its trigger logs every write to the table, {size_text(one.log_bytes)} so far" if one.watching else ""
    if one.unfinished and one.lost:
        return (
            f'online rewrite of {one.table or "a table"} in "{one.name}" unfinished, and its comment is missing'
            f"{logs}: the next migrate, or migrate --abandon, removes it"
        )
    if one.unfinished:
        return (
            f"online rewrite of {one.table} to {one.target} unfinished, {copied} rows copied{logs}:"
            " migrate resumes it, migrate --abandon removes it"
        )
    if one.kept:
        return f'the old {one.table} is kept in the schema "{one.name}": migrate --abandon removes it'
    return f'the schema "{one.name}" was left by an online rewrite: the next migrate removes it'

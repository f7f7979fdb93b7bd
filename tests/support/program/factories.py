"""Values of the program's own types, as a healthy database of one role would give them."""

from dataclasses import replace
from typing import Any

from packaging.version import Version

from schema_migrator.catalog.facts import Facts
from schema_migrator.diagnosis.state import Absent, At, Overview, State
from schema_migrator.planning import plan
from schema_migrator.releases.source import Release, Store
from support.program.library import LIBRARY

HEALTHY = Facts(
    schema="public",
    schema_exists=True,
    server=180000,
    read_only=False,
    pid=1,
    identity="here/1",
    role="temporal",
    may_create_schema=True,
    may_create_table=True,
    schema_owner="pg_database_owner",
    btree_gin=False,
    tables=[],
    foreign_tables=[],
    elsewhere=[],
)


def facts(**changes: Any) -> Facts:  # noqa: ANN401 - fields of Facts
    """Return the facts of a healthy database, but for some."""
    return replace(HEALTHY, **changes)


def at(version: str, lowest: str = "0.1") -> At:
    """Return the state of a recorded version."""
    return At(version=Version(version), min_compatible=Version(lowest))


def release(version: str = "1.29.1") -> Release:
    """Return a carried release."""
    return LIBRARY.release(version)


def overview(state: State) -> Overview:
    """Return a look that found this state, with its version row."""
    recorded = None if isinstance(state, Absent) else getattr(state, "recorded", getattr(state, "version", None))
    return Overview(facts=HEALTHY, rows=(), recorded=recorded, state=state)


def planned(state: State, target: str | None = None, *, store: Store = Store.VISIBILITY, **more: Any) -> plan.Plan:  # noqa: ANN401 - see plan.build
    """Return the plan from a state to a target of release 1.29.1, the latest unless said."""
    source = release().source(store)
    return plan.build(source, overview(state), source.target(target), database="temporal_visibility", **more)

"""The check of an installation by a role that may not rehearse: the schema is read back after the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.diagnosis import examine
from schema_migrator.diagnosis.state import At
from schema_migrator.errors import NotAsRehearsed
from schema_migrator.releases.source import Store
from schema_migrator.releases.statements import created_tables, dropped_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.version import Version

    from schema_migrator.diagnosis.examine import Examination, LiveSchema, StoreHandle
    from schema_migrator.planning.plan import Plan
    from schema_migrator.releases.source import Source


def assert_installed(place: StoreHandle, plan: Plan) -> None:
    """Raise NotAsRehearsed if records, tables or primary keys of an installation are missing after its commit.

    All statements ran in one transaction. This shows what exists now, but not that each column is right: that needs a
    rehearsal, and so CREATE on the database.
    """
    overview = examine.look(place)
    live = examine.read_live(place.conn, overview)
    wrong = tuple(_lacks(place.source, plan.target, examine.Examination(overview=overview, live=live), live))
    if wrong:
        raise NotAsRehearsed(
            f"the installation was committed, but is incomplete when read back: {'; '.join(wrong)}",
            hint="look for an event trigger or another program that changes tables; with CREATE on the database,"
            " schema-migrator verify shows the difference",
        )
    events.logger().info(
        "schema.read_back",
        version=str(plan.target),
        tables=len(standing_tables(place.source, plan.target)),
        reason="the role may not create the schema of a rehearsal",
    )


def standing_tables(source: Source, target: Version) -> frozenset[str]:
    """Return the tables that a store has at a version: its steps created them and did not drop them later."""
    tables: set[str] = set()
    for step in source.steps:
        if step.version <= target:
            for statement in step.statements:
                tables |= created_tables(statement.text)
                tables -= dropped_tables(statement.text)
    return frozenset(tables)


def _lacks(source: Source, target: Version, found: Examination, live: LiveSchema) -> Iterator[str]:
    state, facts = found.state, found.facts
    if not isinstance(state, At) or state.version != target:
        yield f"version {found.overview.recorded} is recorded, expected {target}"
    if missing := sorted(standing_tables(source, target) - set(facts.tables)):
        yield f"without the tables {', '.join(missing)}"
    if facts.keyless:
        yield f"without a primary key: {', '.join(facts.keyless)}"
    if facts.invalid:
        yield f"invalid indexes: {', '.join(facts.invalid)}"
    unlisted = [str(version) for version in source.versions if version <= target and version not in live.history]
    if unlisted:
        yield f"schema_update_history lacks {', '.join(unlisted)}"
    if source.store is Store.DEFAULT and "namespace_metadata" in facts.tables and live.seed.version is None:
        yield "namespace_metadata lacks its row"

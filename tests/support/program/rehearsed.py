"""Snapshots of a real rehearsal, and what a user may keep beside them."""

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from packaging.version import Version

from schema_migrator.catalog import seed_row
from schema_migrator.catalog.facts import VersionRow
from schema_migrator.catalog.seed_row import Seed
from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.diagnosis.recognition import Evidence
from schema_migrator.diagnosis.rehearsal import Rehearsal
from schema_migrator.diagnosis.state import At, Overview
from schema_migrator.releases.source import UNVERSIONED, Source, Step
from support.program.factories import HEALTHY

quickly = settings(
    deadline=None,
    max_examples=40,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A store's steps and what each statement of them makes."""

    source: Source
    rehearsal: Rehearsal

    @property
    def steps(self) -> list[tuple[Version, Step]]:
        """The steps that have statements, each after the version before it."""
        versions = [UNVERSIONED, *self.source.versions]
        return [(before, step) for before, step in zip(versions, self.source.steps, strict=False) if step.statements]

    def evidence(self, recorded: Version, live: Snapshot, *rows: tuple[str, str], seed: Seed) -> Evidence:
        """Return what `find` is given for a recorded version, 0.0 without a row, and a live schema."""
        state = At(version=recorded, min_compatible=Version("0.1"))
        made = tuple(VersionRow(db_name=name, curr_version=v, min_compatible_version="0.1") for name, v in rows)
        overview = Overview(facts=HEALTHY, rows=made, recorded=recorded, state=state)
        return Evidence(source=self.source, overview=overview, live=live, seed=seed, rehearsal=self.rehearsal)


@st.composite
def extras(draw: st.DrawFn, live: Snapshot) -> Snapshot:
    """Return the live schema with objects of the user's own."""
    objects = dict(live.objects)
    tables = sorted(live.tables)
    for number in range(draw(st.integers(0, 4))):
        name = f"own_{number}"
        kind = draw(st.sampled_from(["index", "column", "constraint", "trigger"] if tables else ["function"]))
        if draw(st.booleans()):
            kind = draw(st.sampled_from(["function", "table", "view", "sequence"]))
        if kind == "table":
            objects |= {Key("table", "", name): "", Key("order", "", name): "a", Key("column", name, "a"): "integer"}
        elif kind in ("function", "view", "sequence"):
            objects[Key(kind, "", name)] = "of the user's own"
        else:
            table = draw(st.sampled_from(tables))
            objects[Key(kind, table, name)] = "of the user's own"
            if kind == "column":
                columns = objects.get(Key("order", "", table), "").split(", ")
                columns.insert(draw(st.integers(0, len(columns))), name)
                objects[Key("order", "", table)] = ", ".join(columns)
    return Snapshot(objects)


def seed_after(step: Step, done: int) -> Seed:
    """Return the seed row as a step leaves it after some statements."""
    inserted = step.version > Version("1.0") or any(
        seed_row.inserted_by(statement.text) for statement in step.statements[:done]
    )
    return Seed(version=1 if inserted else None)

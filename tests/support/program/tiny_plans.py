"""Steps of a small invented store, what each of their statements makes, and plans of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from packaging.version import Version

from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.diagnosis.prediction import Proof
from schema_migrator.diagnosis.rehearsal import Rehearsal, Storage
from schema_migrator.diagnosis.state import State
from schema_migrator.estimation.model import Estimate
from schema_migrator.planning import plan
from schema_migrator.planning.plan import Plan, PlanInputs, PlannedStep, PlanOptions, TableLock
from schema_migrator.planning.tables import Table
from schema_migrator.releases.source import UNVERSIONED, Source, SqlFile, Step, Store
from schema_migrator.releases.statements import Statement
from support.program.factories import at, overview

TABLE = "orders"
V1, V2, V3, V4 = (Version(f"1.{minor}") for minor in range(1, 5))
INDEXED = "CREATE INDEX by_day ON orders (day)"
NUMBERS = {"id": 1, "day": 2, "note": 3, "kind": 4, "year": 5, "price": 2}
"""The columns' numbers in their tables, in the order in which statements add them."""


def statement(text: str) -> Statement:
    """Return a statement that is alone in its file."""
    return Statement(text=text, file="f.sql", line=1)


def step(version: str, *texts: str) -> Step:
    """Return a step with one file, in which each statement has its own line."""
    file = SqlFile(name=f"visibility/v{version}/f.sql", text="".join(f"{text};\n" for text in texts))
    files = (file,) if texts else ()
    return Step(version=Version(version), min_compatible=Version("0.1"), description="", md5="", files=files)


def table(columns: str, name: str = TABLE) -> dict[Key, str]:
    """Return the objects of a table with these columns, each with its type."""
    types = dict(column.split(" ", 1) for column in columns.split(", "))
    parts = {Key("column", name, column): kind for column, kind in types.items()}
    return {Key("table", "", name): "", Key("order", "", name): ", ".join(types), **parts}


def index(name: str, column: str, parent: str = TABLE, *, kind: str = "INDEX") -> dict[Key, str]:
    """Return an index, as a snapshot shows it."""
    return {Key("index", parent, name): f"CREATE {kind} {name} ON {parent} USING btree ({column})"}


def constraint(name: str, text: str, parent: str = TABLE) -> dict[Key, str]:
    """Return a constraint, as a snapshot shows it."""
    return {Key("constraint", parent, name): text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A schema before or after a statement: its objects, and the numbers of its tables' files, by name.

    `numbers` are those of columns that were dropped and added again.
    """

    objects: Mapping[Key, str]
    files: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def snapshot(self) -> Snapshot:
        """The schema."""
        return Snapshot(dict(self.objects))

    @property
    def bodies(self) -> dict[str, Storage]:
        """The storage of its tables."""
        known = NUMBERS | dict(self.numbers)
        return {
            name: Storage(
                file=self.files.get(name, 1),
                columns={column: known[column] for column in self.snapshot.order(name)},
            )
            for name in self.snapshot.tables
        }


def moment(*objects: Mapping[Key, str], file: int = 1, numbers: Mapping[str, int] = MappingProxyType({})) -> Moment:
    """Return a moment with these objects, when the rows of orders are in a file with this number."""
    return Moment(
        objects={key: text for each in objects for key, text in each.items()}, files={TABLE: file}, numbers=numbers
    )


def proof(start: Mapping[Key, str], end: Mapping[Key, str]) -> Proof:
    """Return the proof of a step that touches all these objects."""
    empty = frozenset[Key]()
    touched = frozenset(start.keys() | end.keys())
    return Proof(touched=touched, start=Snapshot(start), end=Snapshot(end), dropped=empty, known=empty)


def locks(*names: str, mode: str = "ACCESS EXCLUSIVE") -> tuple[TableLock, ...]:
    """Return locks on tables."""
    return tuple(TableLock(table=name, mode=mode, size=0) for name in names)


def working(version: str, *texts: str, on: Sequence[str] = (TABLE,), **more: Any) -> PlannedStep:  # noqa: ANN401 - fields of PlannedStep
    """Return a step that builds an index on each of some tables, which it locks."""
    made = step(version, *texts or (INDEXED,))
    built = {key: text for name in on for key, text in index("by_day", "day", name).items()}
    given: dict[str, Any] = {"locks": locks(*on), "proof": proof({}, built)} | more
    return PlannedStep(step=made, previous=Version("1.0"), statements=made.statements, **given)


def plan_of(*steps: PlannedStep, by_tool: bool = False) -> Plan:
    """Return the plan with these steps."""
    return Plan(
        store=Store.VISIBILITY,
        database="shop",
        schema="public",
        state=at("1.0"),
        target=Version("1.9"),
        setup=False,
        adopt=None,
        together=False,
        steps=steps,
        by_tool=by_tool,
    )


def about(likely: float) -> Estimate:
    """Return an estimate with its usual range."""
    return Estimate(likely=likely, low=likely / 2, high=likely * 2)


Told = tuple[Step, Sequence[Moment]]
"""A step, and the moment after each of its statements."""


def rehearsed(*told: Told) -> Rehearsal:
    """Return the rehearsal of steps that follow one another, the first of them on an empty schema."""
    before = Moment(objects={})
    after, within, bodies = {UNVERSIONED: before.snapshot}, {}, {}
    for each, made in told:
        moments = [before, *made]
        assert len(made) == len(each.statements)
        within[each.version] = tuple(moment.snapshot for moment in moments)
        bodies[each.version] = tuple(moment.bodies for moment in moments)
        before = moments[-1]
        after[each.version] = before.snapshot
    changing = frozenset(
        each.version for each, _ in told if any(statement.changes_rows for statement in each.statements)
    )
    return Rehearsal(release="1.29.1", after=after, within=within, bodies=bodies, changing=changing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A store with these steps, which is rehearsed and can be planned."""

    told: tuple[Told, ...]

    @property
    def rehearsal(self) -> Rehearsal:
        """The rehearsal of all steps."""
        return rehearsed(*self.told)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps."""
        return tuple(each for each, _ in self.told)

    @property
    def source(self) -> Source:
        """The files."""
        return Source(store=Store.VISIBILITY, release="1.29.1", folder=Path("versioned"), steps=self.steps)

    def planned(
        self,
        state: State | None = None,
        target: str | None = None,
        *,
        live: Snapshot | None = None,
        sizes: Mapping[str, int] = MappingProxyType({}),
        blockers: Iterable[str] = (),
        options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
        **seen: Any,  # noqa: ANN401 - fields of Overview
    ) -> Plan:
        """Return the plan to the latest version, from 1.0 and its rehearsed schema, unless others are given."""
        start = state or at("1.0")
        begun = self.rehearsal.after.get(getattr(start, "version", None) or UNVERSIONED, Snapshot({}))
        tables = {name: Table(size=size, blockers=tuple(blockers)) for name, size in sizes.items()}
        return plan.build(
            self.source,
            replace(overview(start), **seen),
            self.source.target(target),
            database="shop",
            options=options,
            inputs=PlanInputs(rehearsal=self.rehearsal, live=live or begun, tables=tables),
        )

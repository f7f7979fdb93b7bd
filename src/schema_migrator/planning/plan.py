"""What a run will do: a pure function of files, state and target to a frozen value. `preflight` checks that value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from packaging.version import Version

from schema_migrator.catalog.facts import leftover_indexes
from schema_migrator.diagnosis import acceptance, prediction, repetition, required_objects
from schema_migrator.diagnosis.state import Absent, At, Between, Unknown, Unrecorded
from schema_migrator.planning import refusals, rewrite_span
from schema_migrator.releases.source import UNVERSIONED

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.diagnosis.acceptance import AcceptedChange
    from schema_migrator.diagnosis.prediction import Predicted, Problem, Proof
    from schema_migrator.diagnosis.rehearsal import Rehearsal
    from schema_migrator.diagnosis.state import Overview, State
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.planning.tables import Table
    from schema_migrator.releases.source import Source, Step, Store
    from schema_migrator.releases.statements import Statement

SMALL_TABLE_BYTES = 16 * 1024 * 1024
"""Indexes of a table up to this size are built in the step's transaction: that takes well under a second."""

ONLINE_BYTES = 64 * 1024 * 1024
"""A table of this size or larger is rewritten online: at about this size an in-place rewrite blocks writers for 1 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLock:
    """A lock that a step takes on a table of `size` bytes before its first statement."""

    table: str
    mode: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step: which of its statements will run, and how.

    `concurrently`: its CONCURRENTLY statements run on their own, outside a transaction, and so does what adds a value
    to an enum. `resumed`: an earlier run, or somebody by hand, has already applied part of it. `online`: it is part of
    the plan's online rewrite. Without a rehearsal `locks` is empty, so no lock is taken first, and `proof` is None.
    """

    step: Step
    previous: Version
    statements: tuple[Statement, ...]
    locks: tuple[TableLock, ...] = ()
    rewrites: tuple[str, ...] = ()
    concurrently: bool = False
    resumed: bool = False
    online: bool = False
    proof: Proof | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """Steps that can run as one online rewrite of a table.

    `size`: the table's bytes. `rewrites`: how many times the steps would rewrite it in place. `declined`: why the
    rewrite is not wanted online; the steps then run in place. `blockers`: why it cannot run online; preflight refuses
    such a plan. In both cases `shape` is None. `forecast`: the bytes of the new table's files, estimated by a trial.
    """

    table: str
    size: int
    rewrites: int
    versions: tuple[Version, ...]
    shape: TargetShape | None = None
    declined: str = ""
    blockers: tuple[str, ...] = ()
    forecast: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps from a state to a target; none if there is nothing to do.

    Before the steps, `setup` writes the version tables and the first version row, `adopt` records the version that the
    tables match, and `rebuild` names the invalid indexes to rebuild or drop. `together`: everything in one transaction,
    because the store is not in use yet. `by_tool`: the vendor's binary runs the steps, except one that was started
    before. `online`: the rewrite of a large table, or why it does not run online. `leftovers`: of earlier online
    rewrites. `problems`: manual changes that would make a step fail halfway, or leave Temporal without an object that
    it needs, and accepted ones that a step would undo; `undoes`: what steps do to those that need not be kept. `heir`:
    the role that will own what the steps create; empty if our role stays the owner.
    """

    store: Store
    database: str
    schema: str
    state: State
    target: Version
    setup: bool
    adopt: Step | None
    together: bool
    steps: tuple[PlannedStep, ...]
    rebuild: tuple[str, ...] = ()
    by_tool: bool = False
    online: Online | None = None
    leftovers: tuple[Leftover, ...] = ()
    problems: tuple[Problem, ...] = ()
    undoes: tuple[str, ...] = ()
    heir: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps and not self.setup and not self.rebuild and self.adopt is None

    @property
    def changes(self) -> bool:
        """Whether a run changes the store: by the plan itself, or by removing or continuing an online rewrite."""
        return not self.empty or not all(leftover.kept for leftover in self.leftovers)

    @property
    def fresh(self) -> bool:
        """Whether the store is not in use yet: it is empty, or at version 0.0."""
        return isinstance(self.state, Absent) or self.version == UNVERSIONED

    @property
    def dropped(self) -> tuple[str, ...]:
        """The invalid indexes that are dropped: an interrupted rebuild left each beside the index it should replace."""
        return leftover_indexes(self.rebuild)

    @property
    def version(self) -> Version | None:
        """The version that the plan starts from, None if there is none or it is unknown."""
        return None if isinstance(self.state, Absent | Unknown) else self.state.version

    @property
    def recorded(self) -> Version | None:
        """The version in the version row, None without a row."""
        return self.state.recorded if isinstance(self.state, Unrecorded | Unknown) else self.version

    @property
    def ahead(self) -> bool:
        """Whether the store is newer than the target."""
        return self.version is not None and self.version > self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """What a plan can use beyond files, state and target: a rehearsal, the live snapshot, and the tables by name.

    `accepted` are the accepted differences.
    """

    rehearsal: Rehearsal
    live: Snapshot
    tables: Mapping[str, Table]
    accepted: tuple[AcceptedChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What the operator asks for. `adopt`: record the version that the tables match.

    `by_tool`: let the vendor's binary run the steps. `rewrite`: how to rewrite tables; None decides by size.
    """

    adopt: bool = False
    by_tool: bool = False
    rewrite: Literal["online", "in-place"] | None = None


def build(
    source: Source,
    overview: Overview,
    target: Version,
    *,
    database: str,
    options: PlanOptions = PlanOptions(),
    inputs: PlanInputs | None = None,
) -> Plan:
    """Return the plan. Raises UnknownState if the state allows none.

    Without `inputs` the steps have no locks and no proof, and every table counts as small.
    """
    state = overview.state
    refusals.refuse(source, overview, target, database, adopt=options.adopt)
    fresh = isinstance(state, Absent) or (isinstance(state, At) and state.version == UNVERSIONED)
    start = UNVERSIONED if isinstance(state, Absent | Unknown) else state.version or UNVERSIONED
    pending = [step for step in source.steps if start < step.version <= target]
    known = None if fresh else inputs
    remaining = {state.step: state.remaining} if isinstance(state, Between) else {}
    seen = prediction.predict(known.rehearsal, pending, known.live, remaining) if known else ()
    for step, predicted in zip(pending, seen, strict=False):
        if known and step.version in remaining:
            refusals.refuse_repetition(known.rehearsal, step, predicted.remaining, database, source.store)
    previous = [start, *(step.version for step in pending)]
    steps = [_planned(*pair, state, known) for pair in zip_longest(pending, previous[:-1], seen)]
    unrecorded = isinstance(state, Unrecorded)
    lacking = required_objects.problems(known.rehearsal, known.live, seen, previous[-1]) if known else ()
    undone = acceptance.undone(known.accepted, seen, known.rehearsal.known) if known else ()
    online = _online(steps, state, known, options, seen)
    apart = online.versions if online and online.shape else ()
    return Plan(
        store=source.store,
        database=database,
        schema=overview.facts.schema or "",
        state=state,
        target=target,
        setup=overview.recorded is None and not unrecorded,
        adopt=next(step for step in source.steps if step.version == start) if unrecorded else None,
        together=fresh and not options.by_tool,
        steps=tuple(replace(planned, online=planned.step.version in apart) for planned in steps),
        rebuild=() if fresh or start > target else tuple(overview.facts.invalid),
        by_tool=options.by_tool,
        online=online,
        leftovers=overview.whose.leftovers,
        problems=(*lacking, *acceptance.refusals(undone)),
        undoes=tuple(each.said for each in undone if not each.entry.keep),
        heir=overview.whose.heir if overview.whose.may_give else "",
    )


def _online(
    steps: Sequence[PlannedStep],
    state: State,
    inputs: PlanInputs | None,
    options: PlanOptions,
    seen: Sequence[Predicted],
) -> Online | None:
    """Return the table rewrite among the pending steps that could run online, None if they contain none."""
    if inputs is None or not steps:
        return None
    done = {state.step: min(state.remaining, default=state.total)} if isinstance(state, Between) else {}
    span = rewrite_span.rewrite_span(inputs.rehearsal, [planned.step for planned in steps], done)
    table = inputs.tables.get(span.table) if span else None
    if span is None or table is None:
        return None
    begun = [planned for planned in steps if planned.step in span.steps and planned.step.version in done]
    skipping = [planned for planned in begun if _skips(planned, done)]
    out_of_order = f"the state of step {skipping[0].step.version}, half-applied out of order" if skipping else ""
    shape = out_of_order or rewrite_span.shape(inputs.rehearsal, span, inputs.live)
    if not isinstance(shape, str):
        predicted = [prediction for prediction in seen if prediction.version in {step.version for step in span.steps}]
        start, end = predicted[0].start.only(shape.touched), predicted[-1].end.only(shape.touched)
        shape = replace(shape, start=start, end=end)
    declined = _declined(table.size, options.rewrite)
    reasons = [*([shape] if isinstance(shape, str) else []), *(["the executor is sql-tool"] if options.by_tool else [])]
    blockers = () if declined else (*table.blockers, *reasons)
    return Online(
        table=span.table,
        size=table.size,
        rewrites=span.rewrites,
        versions=tuple(step.version for step in span.steps),
        shape=None if isinstance(shape, str) or blockers or declined else shape,
        declined=declined,
        blockers=blockers,
    )


def _skips(planned: PlannedStep, done: Mapping[Version, int]) -> bool:
    """Whether a step leaves out statements between others: its table then matches no point of its rehearsal."""
    rest = len(planned.step.statements) - done.get(planned.step.version, 0)
    return planned.resumed and len(planned.statements) != rest


def _declined(size: int, wish: Literal["online", "in-place"] | None) -> str:
    if wish is None and size < ONLINE_BYTES:
        return f"its {size >> 20} MB are less than {ONLINE_BYTES >> 20} MB"
    return "--rewrite in-place is set" if wish == "in-place" else ""


def _planned(
    step: Step, previous: Version, seen: Predicted | None, state: State, inputs: PlanInputs | None
) -> PlannedStep:
    """Return a step with the statements that will run, their locks and how they run."""
    resumed = isinstance(state, Between) and state.step == step.version
    if inputs is None or seen is None:
        indexes = state.remaining if isinstance(state, Between) and resumed else range(len(step.statements))
        return PlannedStep(step=step, previous=previous, statements=tuple(step.statements[place] for place in indexes))
    statements = repetition.to_run(inputs.rehearsal, step, seen.remaining)
    rehearsal, tables = inputs.rehearsal, inputs.tables
    locks = tuple(
        TableLock(table=table, mode=mode, size=tables[table].size if table in tables else 0)
        for table, mode in rehearsal.altered(step, previous).items()
        if table in seen.start.tables
    )
    large = any(lock.size > SMALL_TABLE_BYTES for lock in locks)
    alone = any(statement.enum_value or (large and statement.concurrent) for statement in statements)
    return PlannedStep(
        step=step,
        previous=previous,
        statements=statements,
        locks=locks,
        rewrites=tuple(sorted(rehearsal.rewrites(step.version).keys() & {lock.table for lock in locks})),
        concurrently=alone and repetition.separable(rehearsal, step, seen.remaining),
        resumed=resumed or len(statements) < len(step.statements),
        proof=seen.proof,
    )

"""Values of a forecast: what a plan's steps will cost and what blocks them, measured or extrapolated. No logic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.version import Version

MATTERS_BYTES = 1024 * 1024
"""A step on a table with at most this many bytes of rows takes less than a second, and is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """A live table's size: bytes of its rows, of their TOAST values and of its indexes.

    `rows`: the approximate row count, None if PostgreSQL has no statistics.
    """

    table: str
    heap: int
    toast: int
    indexes: int
    rows: int | None

    @property
    def matters(self) -> bool:
        """Whether the table is so large that a step that works on its rows takes noticeable time."""
        return self.heap + self.toast > MATTERS_BYTES

    @property
    def total(self) -> int:
        """The size of the whole table in bytes, TOAST and indexes included."""
        return self.heap + self.toast + self.indexes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of a statement in a trial: `seconds`, and `made`, the bytes of the files that it created."""

    seconds: float
    made: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A run of all pending statements on copies of some rows: the rows per table, the costs per version.

    `written`: the bytes of the files that it wrote, the copies included.
    """

    rows: Mapping[str, int]
    costs: Mapping[Version, tuple[Cost, ...]]
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimate in seconds: the likely value, and the range in which the actual value should be."""

    likely: float
    low: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(likely=self.likely + other.likely, low=self.low + other.low, high=self.high + other.high)


NOTHING = Estimate(likely=0.0, low=0.0, high=0.0)
BRIEF = Estimate(likely=0.0, low=0.0, high=1.0)
"""The estimate for a step that is not measured because it has few or no rows to work on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEstimate:
    """A step's estimate.

    `seconds`: its duration. `locked`: the longest time that it holds its locks without a break. `disk`: the bytes that
    it adds until it ends.
    """

    seconds: Estimate
    locked: Estimate
    disk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementGroup:
    """Statements, by index in a step, that run in one transaction; if `alone`, outside any and without table locks."""

    places: tuple[int, ...]
    alone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingTransaction:
    """A transaction that holds a lock on a table of the plan, and so could block a step.

    `pid` is None for a prepared transaction; `who` is then its gid, otherwise the application's name. `seconds`: its
    age, None if this role may not see it.
    """

    table: str
    mode: str
    pid: int | None
    who: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a plan's steps will cost, and which transactions block them.

    Each step outside the plan's online rewrite has an estimate in `steps`, or in `unmeasured` the reason why it has
    none; `online` is the estimate of the online rewrite. `sampled`: the rows of the largest trial, by table. `spent`:
    the seconds that measuring took, and `written` the bytes of the files that it wrote. `left_out`: the user's own
    indexes that could not be built in the trials.
    """

    sizes: tuple[TableSize, ...] = ()
    holders: tuple[BlockingTransaction, ...] = ()
    partitioned: frozenset[str] = frozenset()
    steps: Mapping[Version, StepEstimate] = field(default_factory=dict)
    online: StepEstimate | None = None
    unmeasured: Mapping[Version, str] = field(default_factory=dict)
    sampled: Mapping[str, int] = field(default_factory=dict)
    spent: float = 0.0
    written: int = 0
    left_out: tuple[str, ...] = ()

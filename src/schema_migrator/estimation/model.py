"""What a plan's steps will meet and cost: values, measured or carried on from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.version import Version

MATTERS_BYTES = 1024 * 1024
"""Up to so many bytes of rows a step works for less than a second, and is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """A table as it is: bytes of its rows, of their long values and of its indexes.

    `rows`: about how many, None where nobody has counted them.
    """

    table: str
    heap: int
    toast: int
    indexes: int
    rows: int | None

    @property
    def matters(self) -> bool:
        """Whether the table has so many rows that what works on them takes time."""
        return self.heap + self.toast > MATTERS_BYTES

    @property
    def total(self) -> int:
        """All bytes."""
        return self.heap + self.toast + self.indexes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a statement took in a trial: seconds, and bytes of the files that it made."""

    seconds: float
    made: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A run of all pending statements, by version, on copies of some rows: `rows` says how many a table."""

    rows: Mapping[str, int]
    costs: Mapping[Version, tuple[Cost, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number of seconds: what is likely, and between what the truth may lie."""

    likely: float
    low: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(likely=self.likely + other.likely, low=self.low + other.low, high=self.high + other.high)


NOTHING = Estimate(likely=0.0, low=0.0, high=0.0)
BRIEF = Estimate(likely=0.0, low=0.0, high=1.0)
"""What is not measured, because there are no rows to work on, or few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEstimate:
    """A step's seconds, those in which its locks are held at a stretch, and the bytes that it adds until it ends."""

    seconds: Estimate
    locked: Estimate
    disk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementGroup:
    """Statements, by their places in a step, that run in one transaction; `alone`: outside any, and under no lock."""

    places: tuple[int, ...]
    alone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingTransaction:
    """A transaction that has locked a table of the plan, and so would hold a step up.

    `pid` is None for a prepared transaction, whose name `who` is then. `seconds`: its age, None where this role
    may not see it.
    """

    table: str
    mode: str
    pid: int | None
    who: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a plan's steps will meet and cost.

    `steps` has an estimate, or `unmeasured` the reason why there is none, for each step that does not belong to
    the plan's online rewrite; `online` is the estimate of that. `sampled`: of how many rows the larger trial was;
    `spent`: seconds that measuring took; `left_out`: indexes of the user's own that could not be built in it.
    """

    sizes: tuple[TableSize, ...] = ()
    holders: tuple[BlockingTransaction, ...] = ()
    partitioned: frozenset[str] = frozenset()
    steps: Mapping[Version, StepEstimate] = field(default_factory=dict)
    online: StepEstimate | None = None
    unmeasured: Mapping[Version, str] = field(default_factory=dict)
    sampled: Mapping[str, int] = field(default_factory=dict)
    spent: float = 0.0
    left_out: tuple[str, ...] = ()

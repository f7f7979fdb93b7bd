"""What Temporal's servers do to the visibility store meanwhile, and what they notice: writers, readers, their waits."""

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Self, TypeAlias

import psycopg

from support.postgres.engine import Connection
from support.visibility import ledger
from support.visibility.executions import PAGE, Key, Row, Statements, as_read, statements
from support.visibility.ledger import Effect, Ledger
from support.visibility.operations import Deed, Deeds
from support.waiting import PATIENCE

NOTICED = 0.1
"""Seconds from which on an operation counts as having waited."""
BACKLOG = 1.0
"""Seconds of turns at most that are made up for after a wait."""
OPEN = datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - the table's times have no zone
AWAY = 0.05
"""Seconds between two tries to connect to a server that is away."""
READ_BACK = 0.1
LONGEST = 5
"""Deeds of a transaction at most."""
GROUPS = "SELECT namespace_id, status FROM executions_visibility GROUP BY 1, 2 HAVING count(*) > 10 * %s"

Connect: TypeAlias = Callable[[], Connection]


@dataclass(slots=True, kw_only=True)
class Waits:
    """Seconds that operations took: the longest one, and those that waited together."""

    done: int = 0
    longest: float = 0.0
    total: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count what the block does as one operation, also when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self.done += 1
            self.longest = max(self.longest, seconds)
            self.total += seconds if seconds >= NOTICED else 0.0

    def __add__(self, other: "Waits") -> "Waits":
        return Waits(
            done=self.done + other.done,
            longest=max(self.longest, other.longest),
            total=self.total + other.total,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is done: writes and reads a second, over all that write or read.

    A share of the turns, `transactions`, are transactions of some writes. With `adopt` the writers also work on
    the rows that are there when they begin. With `tolerant` they connect again when a connection breaks, and
    what was not acknowledged may be done or not; otherwise that is a problem too.
    """

    writes: float = 200.0
    writers: int = 2
    reads: float = 10.0
    transactions: float = 0.0
    adopt: bool = True
    tolerant: bool = False
    seed: int = 0


class Client(ABC):
    """A thread that takes turns with a connection of its own until it is told to stop, or meets a problem."""

    def __init__(self, connect: Connect, rate: float, *, tolerant: bool) -> None:
        self.problems: list[str] = []
        self.waits = Waits()
        self._connect = connect
        self._rate = rate
        self._tolerant = tolerant
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    @abstractmethod
    def turn(self, connection: Connection) -> None:
        """Do the next thing."""

    def settle(self, connection: Connection) -> bool:  # noqa: ARG002 - what others override
        """Find out what became of the turn in which the connection broke; False as long as that is open."""
        return True

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the end."""
        self._stop.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self.problems.append(f"no end within {PATIENCE} s")

    def _work(self) -> None:
        settled = True
        while not (settled and self._stop.is_set()):
            try:
                with self._connect() as connection:
                    settled = settled or self.settle(connection)
                    self._take_turns(connection)
            except psycopg.Error as error:
                settled = False
                if not (self._tolerant and lost(error)):
                    self.problems.append(f"{type(error).__name__}: {error}")
                    return
                time.sleep(AWAY)

    def _take_turns(self, connection: Connection) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self.turn(connection)
            due = max(due, time.monotonic() - BACKLOG) + 1 / self._rate


class Writer(Client):
    """Writes the rows of one ledger, which nobody else does."""

    def __init__(self, connect: Connect, traffic: Traffic, number: int, deeds: Deeds) -> None:
        super().__init__(connect, traffic.writes / traffic.writers, tolerant=traffic.tolerant)
        self.ledger = deeds.ledger
        self._deeds = deeds
        self._transactions = traffic.transactions
        self._chance = random.Random(f"turns {traffic.seed} {number}")  # noqa: S311 - nothing secret
        self._open: tuple[Effect, Effect] | None = None

    def turn(self, connection: Connection) -> None:
        """Do one deed, or several in a transaction; now and then read a row back."""
        several = self._chance.random() < self._transactions
        deeds = list(self._draw(self._chance.randint(2, LONGEST) if several else 1))
        with self.waits.measured():
            if several:
                with connection.transaction():
                    for deed in deeds:
                        connection.execute(deed.statement.encode(), deed.values)
            else:
                connection.execute(deeds[0].statement.encode(), deeds[0].values)
        self._open = None
        if self._chance.random() < READ_BACK:
            self._read_back(connection)

    def settle(self, connection: Connection) -> bool:
        """See whether the last turn was done or not; anything between is a problem."""
        if self._open is not None:
            before, after = self._open
            found = {key: self._read(connection, key) for key in after}
            if found == before:
                self.ledger.apply(before)
            elif found != after:
                self.problems.append(f"half of a transaction is there: {found}, expected {before} or {after}")
            self._open = None
        return True

    def _draw(self, count: int) -> Iterator[Deed]:
        before: dict[Key, Row | None] = {}
        for _ in range(count):
            deed = self._deeds.draw()
            before = {**self.ledger.now(deed.effect), **before}
            self.ledger.apply(deed.effect)
            yield deed
        self._open = before, self.ledger.now(before)

    def _read_back(self, connection: Connection) -> None:
        key = self.ledger.pick(self._chance)
        if key is not None and (found := self._read(connection, key)) != self.ledger.rows[key]:
            self.problems.append(f"read {found} of {key}, written {self.ledger.rows[key]}")

    def _read(self, connection: Connection, key: Key) -> Row | None:
        row = connection.execute(self._deeds.statements.read.encode(), key).fetchone()
        return None if row is None else as_read(row)


class Reader(Client):
    """Lists workflows as Temporal's UI does; there is more than a page of each group of a namespace and a status."""

    def __init__(self, connect: Connect, traffic: Traffic, groups: list[tuple[str, int]], listed: Statements) -> None:
        super().__init__(connect, traffic.reads, tolerant=traffic.tolerant)
        self._groups = groups
        self._statements = listed
        self._chance = random.Random(f"reads {traffic.seed}")  # noqa: S311 - nothing secret

    def turn(self, connection: Connection) -> None:
        """List one group, or nothing of a namespace that has nothing, and look at the page."""
        group = self._chance.choice(self._groups) if self._groups else ("nobody's", 1)
        with self.waits.measured():
            rows = connection.execute(self._statements.listed.encode(), group).fetchall()
        page = [dict(zip(self._statements.columns, as_read(row), strict=True)) for row in rows]
        if problem := wrong_page(page, group, PAGE if self._groups else 0):
            self.problems.append(problem)


def wrong_page(page: list[dict[str, Any]], group: tuple[str, int], count: int) -> str:
    """Return what is wrong with a page of a group; nothing where it is right."""
    if len(page) != count:
        return f"a page of {group} has {len(page)} rows, expected {count}"
    if any((row["namespace_id"], row["status"]) != group for row in page):
        return f"a page of {group} has rows of others"
    if len({row["run_id"] for row in page}) != count:
        return f"a page of {group} has a row twice"
    times = [(row["close_time"] or OPEN, row["start_time"]) for row in page]
    return f"a page of {group} is out of order" if any(one < other for one, other in pairwise(times)) else ""


def lost(error: psycopg.Error) -> bool:
    """Tell whether that is a connection's end."""
    state = error.sqlstate or ""
    return state.startswith(("57P", "08")) if state else isinstance(error, psycopg.OperationalError)


class Load:
    """Writers and a reader at work from `with` to its end."""

    def __init__(self, connect: Connect, traffic: Traffic) -> None:
        with connect() as connection:
            self.statements = statements(connection)
            rows = ledger.load(connection, self.statements) if traffic.adopt else {}
            groups = [(name.rstrip(), status) for name, status in connection.execute(GROUPS, [PAGE]).fetchall()]
        self.writers = [
            Writer(connect, traffic, number, self._deeds(traffic, number, rows)) for number in range(traffic.writers)
        ]
        self.reader = Reader(connect, traffic, groups, self.statements)

    def _deeds(self, traffic: Traffic, number: int, rows: Mapping[Key, Row]) -> Deeds:
        own = {key: rows[key] for key in sorted(rows)[number :: traffic.writers]}
        chance = random.Random(f"deeds {traffic.seed} {number}")  # noqa: S311 - nothing secret
        return Deeds(ledger=Ledger(rows=own), statements=self.statements, chance=chance)

    def __enter__(self) -> Self:
        for client in (*self.writers, self.reader):
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in (*self.writers, self.reader):
            client.stop()

    @property
    def expected(self) -> dict[Key, Row]:
        """The rows as they have to be."""
        return {key: row for writer in self.writers for key, row in writer.ledger.rows.items()}

    @property
    def problems(self) -> list[str]:
        """What went wrong."""
        return [problem for client in (*self.writers, self.reader) for problem in client.problems]

    @property
    def waits(self) -> Waits:
        """The writers' waits."""
        return sum((writer.waits for writer in self.writers), Waits())

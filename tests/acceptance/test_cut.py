"""A connection that breaks at any moment leaves only what the next run can go on from."""

from dataclasses import dataclass

import pytest

from support.postgres.databases import Databases
from support.postgres.proxy import Options, Proxy
from support.postgres.statement_gate import ADVISORY, OURS, gate, pids
from support.program.command import finish, started
from support.program.references import NEWEST, Hop, References, newest, picture, run_here, start_by_vendor
from support.selection import EVERYTHING
from support.visibility.traffic import fill_large
from support.waiting import await_one

KINDS = "QES"
"""Simple queries, executions inside a pipeline, and the ends of pipelines."""
CASES = [
    pytest.param("default", (), False, id="install-default"),
    pytest.param("visibility", (), False, id="install-visibility"),
    pytest.param("default", ((NEWEST, "1.18"),), False, id="upgrade-default"),
    pytest.param("visibility", ((NEWEST, "1.9"),), False, id="upgrade-visibility"),
    pytest.param("visibility", ((NEWEST, "1.9"),), True, id="upgrade-large"),
]
PARTS = 6
SLICES = 10
CUTS = None if EVERYTHING else SLICES
"""For each case, spread over a run; all messages otherwise."""
A_TABLE = "CREATE TABLE cluster_membership"
WORKING = f"{OURS} AND application_name LIKE '% worker %' AND state <> 'idle'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One store's migration from a start of the vendor's making, each time in a new database."""

    databases: Databases
    references: References
    store: str
    start: tuple[Hop, ...]
    large: bool

    def database(self) -> str:
        """Return a new database at the start."""
        if not self.start:
            return self.databases.create()
        name = start_by_vendor(self.databases, self.store, *self.start, own=False)
        if self.large:
            with self.databases.connect(name) as connection:
                fill_large(connection)
        return name

    def run(self, database: str, seen: Databases) -> int:
        """Run ours on a database as it is seen from somewhere; return the exit code."""
        names = {"SCHEMA_MIGRATOR_STORES": self.store, f"{self.store.upper()}_SQL_DATABASE": database}
        return run_here(seen.env() | names, "migrate")

    def length(self) -> int:
        """Return the number of messages of a run that nobody cuts."""
        with Proxy(self.options()) as proxy:
            assert self.run(self.database(), self.databases.via(proxy.port)) == 0
        return proxy.stats.messages

    def options(self, at: int | None = None, *, after: bool = False) -> Options:
        """Return the options of a proxy that cuts at a message."""
        return Options(host=self.databases.host, port=self.databases.port, cut_at=at, cut_after=after, cut_kinds=KINDS)

    def survive(self, at: int, *, after: bool) -> None:
        """Cut at a message: that run fails, or has done all; the next one does the rest."""
        database = self.database()
        done = self.references.picture(self.store, *self.start, newest(self.store))
        with Proxy(self.options(at, after=after)) as proxy:
            code = self.run(database, self.databases.via(proxy.port))
        left = picture(self.databases, database)
        assert proxy.stats.cuts == 1
        assert code == (0 if code == 0 and left == done else 1)
        assert self.start or not left.records or left == done, "a part of an installation is there"
        assert self.run(database, self.databases) == 0
        assert picture(self.databases, database) == done


@pytest.fixture(scope="module")
def lengths() -> dict[object, int]:
    """Remember how many messages an uncut run sends."""
    return {}


@pytest.fixture
def trial(databases: Databases, references: References, store: str, start: tuple[Hop, ...], *, large: bool) -> Trial:
    """Return the trial of a case."""
    return Trial(databases=databases, references=references, store=store, start=start, large=large)


def length(trial: Trial, lengths: dict[object, int]) -> int:
    """Return the number of messages of an uncut run, counted once."""
    case = trial.store, trial.start, trial.large
    if case not in lengths:
        lengths[case] = trial.length()
    return lengths[case]


@pytest.mark.parametrize(("store", "start", "large"), CASES)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_cut_run_is_made_good_by_the_next(trial: Trial, lengths: dict[object, int], part: int) -> None:
    """Six cuts over the length of a run, before a message and after it in turn."""
    trial.survive(1 + part * length(trial, lengths) // PARTS, after=bool(part % 2))


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("store", "start", "large"), CASES)
@pytest.mark.parametrize("part", range(SLICES))
def test_a_cut_at_any_message(trial: Trial, lengths: dict[object, int], part: int) -> None:
    """Every message, or many of them, before it and after it in turn."""
    messages = length(trial, lengths)
    cuts = CUTS or messages
    for number in range(part, cuts, SLICES):
        trial.survive(1 + number * messages // cuts, after=bool(part % 2))


@pytest.mark.parametrize(
    "patient", [pytest.param(True, id="let-go"), pytest.param(False, id="ended", marks=pytest.mark.matrix)]
)
def test_who_loses_the_lock_does_not_commit(databases: Databases, references: References, *, patient: bool) -> None:
    """When only the lock's holder is lost, the next run waits for the worker, or ends it, and then does the work."""
    env = databases.env() | {"SCHEMA_MIGRATOR_STORES": "default"}
    with gate(databases, "default", A_TABLE) as shut, started(env) as first:
        worker = shut.await_arrival()
        (holder,) = pids(shut.admin, ADVISORY)
        shut.admin.execute("SELECT pg_terminate_backend(%s)", [holder])
        with started(env) as second:
            await_one(lambda: [pid for pid in pids(shut.admin, ADVISORY) if pid != holder])
            assert pids(shut.admin, WORKING) == [worker]
            shut.open() if patient else shut.lift()
            ends = [finish(process) for process in (first, second)]
    assert [end.code for end in ends] == [1, 0], ends
    assert picture(databases, "default") == references.picture("default", newest("default"))

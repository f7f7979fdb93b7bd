"""The fixtures: a server for the session, fresh databases for a test, the vendor's program on them."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest
import structlog

from support.postgres import templates
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Engine, NoEngineError, choose
from support.postgres.watcher import Watcher, watch
from support.program.references import References
from support.selection import EXPECTED_SECONDS, leave_to_the_matrix
from support.vendor.kill_points import Points
from support.vendor.kill_sweep import Point, points
from support.vendor.tool import VendorTool

WATCHER = pytest.StashKey[Watcher]()


def pytest_configure(config: pytest.Config) -> None:
    """Start what ends this process's servers with it; each worker of pytest-xdist has its own."""
    config.stash[WATCHER] = watch()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End it, and whatever server is left."""
    config.stash[WATCHER].end()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, and those that `make test` leaves to the matrix."""
    config.stash[EXPECTED_SECONDS] = leave_to_the_matrix(items)
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Stop the run, and never skip, when there is no PostgreSQL for it."""
    # A worker of pytest-xdist cannot stop the run in good order, and its parent has already looked.
    if hasattr(session.config, "workerinput"):
        return
    try:
        choose()
    except NoEngineError as error:
        pytest.exit(f"no PostgreSQL for the tests: {error}", returncode=3)


@pytest.fixture(autouse=True)
def events_as_by_default() -> None:
    """Forget the log level that a command line run in this process by an earlier test has set."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server() -> Iterator[Engine]:
    """Start the PostgreSQL of this run, one for each worker unless it was given."""
    with choose() as engine:
        yield engine
        templates.forget(engine)


@pytest.fixture
def databases(server: Engine) -> Iterator[Databases]:
    """Create two empty databases and their owner; drop all after the test."""
    with fresh(server) as made:
        yield made


@pytest.fixture
def vendor_tool(databases: Databases) -> Callable[[str], VendorTool]:
    """Return what gives the vendor's program of a release, on this test's databases."""
    return lambda version: VendorTool(version=version, databases=databases)


@pytest.fixture(scope="session")
def references(server: Engine) -> Iterator[References]:
    """Give what the vendor's tool makes, to compare with; each picture is made once."""
    with fresh(server) as databases:
        yield References(databases=databases)


@pytest.fixture(scope="session")
def all_points(server: Engine) -> Points:
    """Return what lists the points at which the vendor's tool can be stopped, each release's and store's once."""

    @cache
    def listed(release: str, store: str) -> list[Point]:
        with fresh(server) as databases:
            return points(databases, release, store)

    return listed

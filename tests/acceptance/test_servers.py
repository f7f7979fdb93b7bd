"""The older PostgreSQL versions, each against the vendor's tool on the same server."""

import signal
from collections.abc import Iterator

import pytest

from support.postgres.databases import STORES, Databases, fresh
from support.postgres.engine import Engine
from support.postgres.older_servers import PINNED, older
from support.postgres.statement_gate import HELD, OURS, gate, pids
from support.program.command import finish, started
from support.program.references import NEWEST, Hop, References, newest, picture, run_here, start_by_vendor
from support.visibility.traffic import Writer, fill, fill_large

pytestmark = pytest.mark.matrix

BEFORE = {"default": (NEWEST, "1.18"), "visibility": (NEWEST, "1.9")}
A_TABLE = "CREATE TABLE cluster_membership"


@pytest.fixture(scope="module", params=PINNED)
def server(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Start one version after the other in the place of the usual server."""
    with older(request.param) as engine:
        yield engine


@pytest.fixture(scope="module")
def references(server: Engine) -> Iterator[References]:
    """Give what the vendor's tool makes on this server."""
    with fresh(server) as databases:
        yield References(databases=databases)


def assert_equal(databases: Databases, references: References, **start: Hop) -> None:
    """Compare both stores with what the vendor's tool makes, and plan again."""
    for store in STORES:
        hops = (start[store], newest(store)) if start else (newest(store),)
        assert picture(databases, store) == references.picture(store, *hops)
    assert run_here(databases.env(), "plan", "--check") == 0


def test_installs(databases: Databases, references: References) -> None:
    """From nothing, and once more with nothing to do."""
    for _ in range(2):
        assert run_here(databases.env(), "migrate") == 0
        assert_equal(databases, references)


def test_upgrades(databases: Databases, references: References) -> None:
    """From an older version in use, with concurrent builds on a large table."""
    for store in STORES:
        start_by_vendor(databases, store, BEFORE[store])
    with databases.connect("visibility") as connection:
        fill(connection)
        fill_large(connection)
    with Writer(databases=databases) as writer:
        assert run_here(databases.env(), "migrate") == 0
    assert writer.error is None
    assert_equal(databases, references, **BEFORE)


def test_follows_a_killed_run(databases: Databases, references: References) -> None:
    """A backend whose client was killed ends by itself, or (before PostgreSQL 14) is ended by the next run."""
    with gate(databases, "default", A_TABLE) as shut:
        with started(databases.env()) as process:
            shut.await_arrival()
            process.send_signal(signal.SIGKILL)
            assert finish(process).code == -signal.SIGKILL
        (orphan,) = pids(shut.admin, HELD)
        shut.lift()
        assert run_here(databases.env(), "migrate") == 0
        assert orphan not in pids(shut.admin, OURS)
    assert_equal(databases, references)

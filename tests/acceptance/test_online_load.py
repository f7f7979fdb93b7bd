"""An online rewrite while Temporal's server works: it is as the vendor's tool would leave it, and no write is lost."""

import time
from collections.abc import Iterator

import pytest

from support.postgres.databases import Databases, fresh
from support.postgres.older_servers import PINNED, older
from support.postgres.pgbouncer import pooled
from support.selection import spread
from support.visibility import rewriting
from support.visibility.load import Traffic
from support.visibility.rewriting import Origin

ROWS = 20_000
TRAFFIC = Traffic(transactions=0.2)


@pytest.mark.parametrize("start", ["1.2", "1.9"])
def test_nobody_notices(databases: Databases, start: str) -> None:
    """Every row is as it was written last, none is there twice, every page was full, the dump is the vendor's."""
    assert_unnoticed(rewriting.origin(databases, start, ROWS))


@pytest.fixture(params=PINNED)
def old_server(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Give databases on one of the older PostgreSQL versions after the other."""
    with older(request.param) as engine, fresh(engine) as databases:
        yield databases


@pytest.mark.matrix
@pytest.mark.parametrize("start", spread(["1.9", "1.2"], 2))
def test_nobody_notices_on_an_older_server(old_server: Databases, start: str) -> None:
    """The same on PostgreSQL 13 to 17."""
    assert_unnoticed(rewriting.origin(old_server, start, ROWS // 4))


@pytest.mark.matrix
def test_nobody_notices_behind_a_pooler(databases: Databases) -> None:
    """The same where our lock and the swap go through PgBouncer in transaction mode."""
    origin = rewriting.origin(databases, "1.9", ROWS // 4)
    direct = {"SQL_DIRECT_HOST": databases.host, "SQL_DIRECT_PORT": str(databases.port)}
    with pooled(databases) as pooler:
        assert_unnoticed(origin, SQL_HOST=pooler.host, SQL_PORT=str(pooler.port), **direct)


def assert_unnoticed(origin: Origin, **variables: str) -> None:
    """Run under load, and find nothing wrong."""
    with origin.load(origin.database, TRAFFIC) as load:
        before = load.waits.done
        ended = origin.run(origin.database, **variables)
        meanwhile = load.waits.done - before
        time.sleep(0.5)
    assert ended.code == 0, ended.stderr
    assert "online.cut_over" in [event["event"] for event in rewriting.events(ended)]
    assert origin.problems(origin.database, load) == []
    assert origin.broken_indexes(origin.database) == []
    assert meanwhile > 100
    assert load.reader.waits.done > 10

"""An online rewrite while Temporal's server works: it is as the vendor's tool would leave it, and no write is lost."""

import time

import pytest

import rewriting
from load import Traffic
from stores import Databases

ROWS = 20_000
TRAFFIC = Traffic(transactions=0.2)


@pytest.mark.parametrize("start", ["1.2", "1.9"])
def test_nobody_notices(databases: Databases, start: str) -> None:
    """Every row is as it was written last, none is there twice, every page was full, the dump is the vendor's."""
    origin = rewriting.origin(databases, start, ROWS)
    with origin.load(origin.database, TRAFFIC) as load:
        before = load.waits.done
        ended = origin.run(origin.database)
        meanwhile = load.waits.done - before
        time.sleep(0.5)
    assert ended.code == 0, ended.stderr
    assert "online.swapped" in [event["event"] for event in rewriting.events(ended)]
    assert origin.problems(origin.database, load) == []
    assert origin.broken_indexes(origin.database) == []
    assert meanwhile > 100
    assert load.reader.waits.done > 10

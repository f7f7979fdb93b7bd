"""Whatever the tool of an older release leaves when it is stopped, a run for the newest release ends."""

import pytest

from schema_migrator.commands.verify import verify
from schema_migrator.concurrency import Interrupt
from support.postgres.databases import STORES, Databases
from support.program.references import References, newest
from support.program.store_driver import NEWEST
from support.vendor.kill_points import Points
from support.vendor.kill_sweep import RETRIES, Sweep, migrate, read_settings

RELEASES = ("1.20.4", "1.23.1", "1.27.1", "1.30.4", "1.31.0")
PARTS = 3
pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("release", RELEASES)
def test_the_newest_release_ends_what_an_older_tool_began(
    databases: Databases, references: References, all_points: Points, release: str, store: str, part: int
) -> None:
    """Stopped at a spread of statements, and after none to three retries of its own."""
    listed = all_points(release, store)
    point = listed[(len(listed) - 1) * part // (PARTS - 1)]
    sweep, database = Sweep(databases=databases, references=references), databases.create()
    stuck = sweep.stop(point, database)
    for _ in range(part % (RETRIES + 1) if stuck else 0):
        sweep.attempt(databases, point, database)
    done = migrate(databases, NEWEST, store, database)
    assert str(done.plan.target) == newest(store)[1]
    (verdict,) = verify(read_settings(databases, NEWEST, store, database), Interrupt())
    assert verdict.equal
    assert (verdict.version, verdict.difference.extra) == (verdict.target, ())
    with databases.connect(database) as connection:
        assert connection.execute("SELECT curr_version FROM schema_version").fetchall() == [(newest(store)[1],)]

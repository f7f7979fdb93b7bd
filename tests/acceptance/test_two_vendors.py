"""What two of the vendor's tools leave that ran at the same time, ours brings to the target.

The slower one repeats what the faster has done, for it takes "already exists" for done: so a dropped index comes
back, a column that is dropped and added again ends up behind its neighbour, and the version row goes back. Such a
dump holds all that a clean one does, not always in its order.
"""

import threading
import time
from contextlib import suppress

import pytest

from support.postgres.databases import STORES, Databases
from support.program.references import References, latest, picture, start_by_vendor
from support.vendor.kill_sweep import migrate
from support.vendor.tool import VendorError, VendorTool

OFFSETS = (0.0, 0.03, 0.06, 0.09, 0.12, 0.2)
"""Seconds between the starts; a run on an empty database takes 0.2 to 0.5 s."""
RELEASES = ("1.29.1", "1.32.2")

BEHIND_ITS_NEIGHBOUR = """
ALTER TABLE executions_visibility DROP COLUMN root_workflow_id;
ALTER TABLE executions_visibility ADD COLUMN root_workflow_id VARCHAR(255) NOT NULL DEFAULT '';
CREATE INDEX by_root_workflow_id ON executions_visibility (namespace_id, root_workflow_id,
  (COALESCE(close_time, '9999-12-31 23:59:59')) DESC, start_time DESC, run_id);
"""
WENT_BACK = """
UPDATE schema_version SET curr_version = '1.3', min_compatible_version = '1.0';
INSERT INTO schema_update_history SELECT version_partition, year, month, now(), description, manifest_md5,
  new_version, old_version FROM schema_update_history WHERE new_version = '1.3';
"""


def run_tool(tool: VendorTool, store: str, database: str) -> None:
    """Run the vendor's two commands, whatever comes of it."""
    with suppress(VendorError):
        tool.migrate(store, database=database)


def race(databases: Databases, release: str, store: str, offset: float) -> str:
    """Start two tools on an empty database, one a little later; return it when both have ended."""
    database, tool = databases.create(), VendorTool(version=release, databases=databases)
    threads = [threading.Thread(target=run_tool, args=(tool, store, database)) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(offset)
    for thread in threads:
        thread.join()
    return database


def lines(schema: str) -> set[str]:
    """Return the lines of a dump without the commas between columns."""
    return {line.rstrip(",") for line in schema.splitlines()}


def check(databases: Databases, references: References, release: str, store: str, database: str) -> None:
    """Run ours: it ends at the target, with all that a clean run of the vendor's makes."""
    migrate(databases, release, store, database)
    found, expected = picture(databases, database), references.picture(store, (release, latest(release, store)))
    assert lines(found.schema) >= lines(expected.schema)
    for table in ("schema_version", "namespace_metadata"):
        assert found.records.get(table) == expected.records.get(table)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("release", RELEASES)
def test_two_at_the_same_time(
    databases: Databases, references: References, release: str, store: str, offset: float
) -> None:
    """Mostly one or both of them fail; ours reaches the target all the same."""
    check(databases, references, release, store, race(databases, release, store, offset))


@pytest.mark.parametrize("version", ["1.6", "1.9"])
def test_columns_in_another_order(databases: Databases, references: References, version: str) -> None:
    """The order of columns is nothing that ours insists on: the vendor's tool goes on from there too."""
    start_by_vendor(databases, "visibility", ("1.29.1", version))
    with databases.connect("visibility") as connection:
        connection.execute(BEHIND_ITS_NEIGHBOUR)
    check(databases, references, "1.32.2", "visibility", databases.visibility)


def test_an_index_that_came_back(databases: Databases, references: References) -> None:
    """One was in the middle of 1.6 when the other built the indexes of 1.5: those go with their columns and return."""
    start_by_vendor(databases, "visibility", ("1.29.1", "1.5"))
    with databases.connect("visibility") as connection:
        connection.execute(BEHIND_ITS_NEIGHBOUR)
    check(databases, references, "1.29.1", "visibility", databases.visibility)


@pytest.mark.parametrize("version", ["1.8", "1.18"])
def test_a_version_row_that_went_back(databases: Databases, references: References, version: str) -> None:
    """The tables are of a version that the history lists: it is recorded again, and ours goes on from it."""
    start_by_vendor(databases, "default", ("1.29.1", version))
    with databases.connect("default") as connection:
        connection.execute(WENT_BACK)
    check(databases, references, "1.29.1", "default", databases.default)

"""README's table of what is found in a database and what migrate does about it: each row on a real one."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schema_migrator.errors import MigratorError, NotAsRehearsed, PreflightFailed, UnknownState, WrongStore, exit_code
from support.postgres.databases import Databases
from support.program.store_driver import Site, site

README = Path(__file__).resolve().parents[2] / "README.md"
TABLE = "executions_visibility"
FAIL = {"SCHEMA_MIGRATOR_ON_DRIFT": "fail"}
INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_execution_time'::regclass"


def rows() -> dict[str, str]:
    """Return the table: what is found, and what migrate does."""
    table = (
        README.read_text().partition("| what is found | what `migrate` does |\n| --- | --- |\n")[2].partition("\n\n")[0]
    )
    cells = (re.fullmatch(r"\| (.+?) \| (.+?) \|", line) for line in table.splitlines())
    return {found[1]: found[2] for found in cells if found}


def reached(store: Site, **variables: str) -> list[str]:
    """Migrate to the target; return what was named as changed by hand."""
    with capture_logs() as events:
        done = store.migrate(**variables)
    assert store.status().up_to_date
    assert done.verdict is None or done.verdict.equal == (not [e for e in events if e["event"] == "schema.drift"])
    return [event["object"] for event in events if event["event"] == "schema.drift"]


def refused(store: Site, kind: type[MigratorError], said: str, **variables: str) -> None:
    """See that migrate refuses in these words with its exit code, and changes nothing."""
    refusal = store.refused(**variables)
    assert isinstance(refusal, kind)
    assert exit_code(refusal) == {UnknownState: 21, NotAsRehearsed: 23, PreflightFailed: 23, WrongStore: 20}[kind]
    assert said in str(refusal)


def begun(databases: Databases) -> None:
    """See that a step is resumed."""
    assert reached(site(databases, "visibility").half_install("1.2", 20)) == []


def invalid(databases: Databases) -> None:
    """See that an invalid index is rebuilt below the target and at it."""
    for number, version in enumerate(("1.9", "1.14")):
        store = (
            site(databases, "visibility").at(databases.create() if number else databases.visibility).install(version)
        )
        store.admin(INVALID)
        assert reached(store) == []
        assert store.verify().equal


def renamed(databases: Databases) -> None:
    """See that the old name's row confirms the version."""
    store = site(databases, "visibility").install("1.9")
    store.run("UPDATE schema_version SET db_name = 'old'")
    assert reached(store) == []


def lost(databases: Databases) -> None:
    """See that a lost row is asked for, and recorded with --adopt."""
    store = site(databases, "visibility").install("1.9")
    store.run("DELETE FROM schema_version")
    refused(store, UnknownState, "has the tables of 1.9, but no version is recorded for it")
    assert reached(store, SCHEMA_MIGRATOR_ADOPT="true") == []


def harmless(databases: Databases) -> None:
    """See that it is named or refused, below the target and at it."""
    store = site(databases, "visibility").install("1.9")
    store.run("DROP INDEX by_execution_time", f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY")
    refused(
        store, NotAsRehearsed, f'2 objects of "{store.name}" differ from version 1.9: index {TABLE}.by_exec', **FAIL
    )
    assert sorted(reached(store)) == [f"index {TABLE}.by_execution_time", f"table {TABLE}"]
    refused(store, NotAsRehearsed, "differ from version 1.14", **FAIL)
    assert store.migrate().outcomes == ()


def harmful(databases: Databases) -> None:
    """See that both the step and the change are named."""
    store = site(databases, "visibility").install("1.9")
    store.run("ALTER FUNCTION convert_ts STABLE")
    needed = f"step 1.13 creates the column {TABLE}.temporaldatetime01, which needs the function"
    refused(store, PreflightFailed, needed)


def vital(databases: Databases) -> None:
    """See that each is named, and a primary key also at the target."""
    store = site(databases, "visibility").install("1.9")
    store.run(f"ALTER TABLE {TABLE} DROP encoding, DROP CONSTRAINT {TABLE}_pkey")
    refused(store, PreflightFailed, f"the column {TABLE}.encoding is missing and Temporal cannot work without it")
    refused(
        store, PreflightFailed, f"the constraint {TABLE}.{TABLE}_pkey is missing, PRIMARY KEY (namespace_id, run_id)"
    )
    whole = site(databases, "default").install()
    whole.run("ALTER TABLE tasks DROP CONSTRAINT tasks_pkey")
    refused(whole, PreflightFailed, 'the table "tasks" has no primary key')
    assert not whole.status().up_to_date


def strange(databases: Databases) -> None:
    """See that the nearest version is named."""
    store = site(databases, "visibility").install("1.9")
    store.run("UPDATE schema_version SET curr_version = '1.4'", f"ALTER TABLE {TABLE} DROP encoding")
    refused(store, UnknownState, f"the tables match no version; the closest is 1.12, apart from: column {TABLE}.enc")


def foreign(databases: Databases) -> None:
    """See that nobody else's tables are taken for Temporal's, whatever command looks."""
    store = site(databases, "default")
    store.run(
        "CREATE TABLE tasks (id bigint PRIMARY KEY, title text, data jsonb)",
        "CREATE TABLE namespaces (id uuid PRIMARY KEY, name text, owner text)",
    )
    said = f'database "{store.name}" has tables of the same names that are not Temporal\'s: namespaces, tasks'
    refused(store, WrongStore, said)
    for command in (store.status, store.plan, store.migrate):
        with pytest.raises(WrongStore, match="that are not Temporal's: namespaces, tasks; give Temporal a database"):
            command()


SHOWN: dict[str, Callable[[Databases], None]] = {
    "a step was interrupted, no matter which tool ran it": begun,
    "an index is invalid, for example after an interrupted `CREATE INDEX CONCURRENTLY`": invalid,
    "the database was renamed or restored, and its old name's row has the version that the tables match": renamed,
    "the version row is lost or reset, and the tables match one version": lost,
    "the schema was changed by hand, and no pending step depends on the change": harmless,
    "the schema was changed by hand, and a pending step would fail because of it": harmful,
    "a table, a column or a primary key is missing": vital,
    "the tables match no version": strange,
    "the tables only share their names with Temporal's": foreign,
}


def test_every_row_is_shown() -> None:
    """A new row in README needs a database that shows it."""
    assert list(rows()) == list(SHOWN)


@pytest.mark.parametrize("found", SHOWN)
def test_what_is_found_and_done(databases: Databases, found: str) -> None:
    """What the row says is so."""
    SHOWN[found](databases)

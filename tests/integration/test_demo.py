"""`make demo` in the shell of somebody who operates a real Temporal."""

import os

import pytest

from support.postgres.databases import READ_BY_US, RELEASES
from support.program.command import run_process


def bare() -> dict[str, str]:
    """Return this process's environment without what our program or libpq reads."""
    kept = {name: value for name, value in os.environ.items() if not READ_BY_US.match(name)}
    return {name: value for name, value in kept.items() if not name.startswith("PG")}


@pytest.mark.parametrize(
    "changes",
    [
        {
            "SQL_HOST": "db.example.invalid",
            "SQL_TLS": "true",
            "SQL_TLS_CA_FILE": "/no/such/file",
            "SQL_CONNECT_ATTRIBUTES": "search_path=temporal",
            "SQL_DATABASE": "temporal",
            "SQL_PASSWORD_FILE": "/no/such/file",
            "SQL_HSOT": "x",
            "sql_host": "y",
            "VISIBILITY_SQL_PORT": "tcp://10.0.0.1:5432",
            "TEMPORAL_VERSION": "9.9.9",
            "VISIBILITY_TARGET_VERSION": "1.1",
            "SCHEMA_MIGRATOR_STORES": "visibility",
            "SCHEMA_MIGRATOR_ON_DRIFT": "fail",
            "PGHOSTADDR": "10.255.255.1",
            "PGSSLMODE": "require",
            "PGOPTIONS": "-c default_transaction_read_only=on",
        }
    ],
)
def test_an_environment_full_of_settings(changes: dict[str, str]) -> None:
    """The demo shows what it always shows: its private server has nothing to do with the caller's."""
    done = run_process(bare() | {"SCHEMA_MIGRATOR_SOURCES": str(RELEASES)} | changes, "demo")
    assert done.code == 0, done.stderr
    assert done.stdout.endswith("Done.\n")
    assert "4. The incident" in done.stdout
    assert "half-applied" in done.stdout
    assert "matches" in done.stdout

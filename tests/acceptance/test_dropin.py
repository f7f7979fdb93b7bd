"""The vendor's tool and our drop-in, called with the same command lines on equal databases."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.postgres.databases import RELEASES, Databases, bookkeeping
from support.postgres.engine import Connection
from support.program.references import NEWEST, picture
from support.vendor.tool import binary

OURS = Path(sys.executable).with_name("temporal-sql-tool")
FOLDER = str(RELEASES / NEWEST / "postgresql" / "v12" / "temporal" / "versioned")
SETUP = ("setup-schema", "-v", "0.0")
UPDATE = ("update-schema", "-d", FOLDER)
TO_1_5 = ("update-schema", "--schema-dir", FOLDER, "--version", "1.5")
HISTORY = "schema_update_history"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A command line, what the vendor's tool did before it, and both exit codes.

    `differs`: where ours leaves another state on purpose, and why.
    """

    line: Sequence[str]
    before: Sequence[Sequence[str]] = ()
    vendor: int = 0
    ours: int = 0
    differs: str = ""


CASES = {
    "set up": Case(line=SETUP),
    "set up, by its alias and with two dashes": Case(line=("setup", "--version=v0.0")),
    "set up what is installed": Case(line=SETUP, before=(SETUP, UPDATE)),
    "set up twice": Case(line=SETUP, before=(SETUP,), differs="one row of history is enough"),
    "set up without a version": Case(line=("setup-schema",), vendor=1, ours=2),
    "set up a word": Case(line=("setup-schema", "-v", "first"), vendor=1, ours=2),
    "set up without versions": Case(line=("setup-schema", "-d"), vendor=1, ours=2),
    "set up a version without its tables": Case(
        line=("setup-schema", "-v", "1.5"), ours=2, differs="the tables of 1.5 are not there"
    ),
    "set up by a schema's name": Case(
        line=("setup-schema", "--schema-name", "postgresql/v12/temporal", "-v", "1.19"),
        differs="the history lists every step",
    ),
    "set up over nothing": Case(line=(*SETUP, "--overwrite")),
    "set up over what is there": Case(
        line=(*SETUP, "-o"), before=(SETUP, UPDATE), ours=21, differs="no table with rows is dropped"
    ),
    "update to the last version": Case(line=UPDATE, before=(SETUP,)),
    "update to a version, Go's way": Case(line=("update", "-schema-dir", FOLDER, "-version=v1.5"), before=(SETUP,)),
    "update further": Case(line=UPDATE, before=(SETUP, TO_1_5)),
    "update by a schema's name": Case(
        line=("update-schema", "--schema-name", "postgresql/v12/temporal"), before=(SETUP, TO_1_5)
    ),
    "update to where it is": Case(line=TO_1_5, before=(SETUP, TO_1_5)),
    "update to less than it is": Case(line=TO_1_5, before=(SETUP, UPDATE), vendor=1),
    "update to an unknown version": Case(line=(*UPDATE, "-v", "7.7"), before=(SETUP,), vendor=1, ours=2),
    "update from a folder that does not exist": Case(
        line=("update-schema", "-d", "/nix"), before=(SETUP,), vendor=1, ours=2
    ),
    "update from nowhere": Case(line=("update-schema",), before=(SETUP,), vendor=1, ours=2),
    "update from two places": Case(
        line=(*UPDATE, "--schema-name", "postgresql/v12/temporal"), before=(SETUP,), vendor=1, ours=2
    ),
    "update what was not set up": Case(line=UPDATE, vendor=1, differs="it is installed"),
    "another kind of database": Case(line=("--plugin", "cassandra", *SETUP), vendor=1, ours=2),
    "a wrong password, quietly": Case(line=("--password=wrong", "-q", *SETUP)),
    "a wrong password": Case(line=("--password=wrong", *SETUP), vendor=1, ours=10),
    "no such command": Case(line=("upgrade",), vendor=3, ours=2),
    "no such flag": Case(line=("--nix", *SETUP), vendor=1, ours=2),
    "create what is there, without the right to": Case(line=("create-database",), vendor=1),
    "drop": Case(line=("drop-database", "--force"), before=(SETUP,)),
}


@pytest.mark.parametrize("name", CASES)
def test_command_lines(databases: Databases, name: str) -> None:
    """Where the vendor's succeeds ours ends alike, but for what differs on purpose."""
    case, tools = CASES[name], {"vendor": binary(NEWEST), "ours": OURS}
    left, codes = {}, {}
    for side, tool in tools.items():
        database = databases.create()
        for line in case.before:
            assert call(databases, tools["vendor"], database, line).returncode == 0
        done = call(databases, tool, database, case.line)
        assert "Traceback" not in done.stderr
        codes[side], left[side] = done.returncode, state(databases, database)
    assert codes == {"vendor": case.vendor, "ours": case.ours}
    assert (left["vendor"] == left["ours"]) != bool(case.differs)


def call(
    databases: Databases, tool: Path, database: str, line: Sequence[str], release: str = NEWEST
) -> subprocess.CompletedProcess[str]:
    """Run a command line after the flags that the operator's scripts give, for servers of a release."""
    flags = (
        f"--endpoint={databases.host}",
        f"--port={databases.port}",
        f"--user={databases.vendor_user}",
        f"--password={databases.vendor_password}",
        f"--database={database}",
        "--plugin=postgres12",
    )
    env = {"SCHEMA_MIGRATOR_SOURCES": str(RELEASES), "TEMPORAL_VERSION": release, "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "1"}
    return subprocess.run([str(tool), *flags, *line], env=env, capture_output=True, text=True, check=False)


def state(databases: Databases, database: str) -> object:
    """Return what a database is like, None where it is gone."""
    with databases.admin() as admin:
        found = admin.execute("SELECT FROM pg_database WHERE datname = %s", [database]).fetchone()
    return None if found is None else picture(databases, database)


def test_describe(databases: Databases) -> None:
    """The version alone, of either store; exit 1 where there is none."""
    for folder, version in (("temporal", "1.5"), ("visibility", "1.2")):
        database = databases.create()
        described = call(databases, OURS, database, ("describe-schema",))
        assert (described.returncode, described.stdout) == (1, "")
        assert described.stderr.endswith(f'error: database "{database}" has no version; run setup-schema\n')
        place = FOLDER.replace("temporal", folder)
        call(databases, OURS, database, ("update-schema", "-d", place, "-v", version))
        described = call(databases, OURS, database, ("describe-schema",))
        assert (described.returncode, described.stdout) == (0, f"{version}\n")


def test_drops_only_what_it_is_told_to(databases: Databases) -> None:
    """Not without --force, and not while somebody is connected."""
    database = databases.create()
    assert call(databases, OURS, database, ("drop-database",)).returncode == 2
    with databases.connect(database):
        refused = call(databases, OURS, database, ("drop-database", "--force"))
    assert refused.returncode == 21
    assert f'database "{database}" was not dropped: There is 1 other session using the database' in refused.stderr
    assert state(databases, database) is not None
    assert call(databases, OURS, databases.create() + "_not", ("drop-database", "--force")).returncode == 21


def test_a_word_that_may_be_a_password_is_not_shown(databases: Databases) -> None:
    """A blank in an unquoted variable makes two words of a password."""
    for line in (("--pw", "my", "s3cret", *SETUP), ("create-database", "s3cret"), ("--s3=s3cret", *SETUP)):
        refused = call(databases, OURS, databases.default, line)
        assert refused.returncode == 2
        assert "s3cret" not in refused.stderr + refused.stdout


def test_a_link_names_release_and_store(databases: Databases, tmp_path: Path) -> None:
    """The folder of the vendor's images may be a link to a release's."""
    (tmp_path / "schema").symlink_to(RELEASES / "1.29.1")
    folder = tmp_path / "schema" / "postgresql" / "v12" / "visibility" / "versioned"
    database = databases.create()
    assert call(databases, OURS, database, ("update-schema", "-d", str(folder))).returncode == 0
    assert versions(databases.connect(database)) == ["1.9"]


def test_a_folder_as_in_the_vendors_images_needs_a_version(databases: Databases, tmp_path: Path) -> None:
    """TEMPORAL_VERSION says which release its files are of; files of another release are not taken for it."""
    shutil.copytree(RELEASES / "1.31.0" / "postgresql", tmp_path / "postgresql")
    args = "update-schema", "-d", str(tmp_path / "postgresql" / "v12" / "visibility" / "versioned")
    database = databases.create()
    done = call(databases, OURS, database, args, "")
    assert done.returncode == 2
    assert "does not tell release and store" in done.stdout + done.stderr
    done = call(databases, OURS, database, args)
    assert done.returncode == 2
    assert "differ from those of release 1.32.2" in done.stdout + done.stderr
    done = call(databases, OURS, database, args, "1.99.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert versions(databases.connect(database)) == ["1.14"]


def versions(connection: Connection) -> list[str]:
    """Return the recorded versions."""
    with connection:
        return [row[2] for row in bookkeeping(connection)["schema_version"]]

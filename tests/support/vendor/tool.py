"""The vendor's own program, to compare with."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.postgres.databases import RELEASES, Databases

BUILDER = RELEASES.parent / "vendor" / "build_tool.py"
FOLDERS = {"default": "temporal", "visibility": "visibility"}


class VendorError(Exception):
    """The vendor's program failed; the text is what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorTool:
    """The program of one release, on a test's databases; `database` names another of the same owner."""

    version: str
    databases: Databases

    def migrate(self, store: str, target: str | None = None, *, database: str | None = None) -> None:
        """Bring an empty database to a version, the release's last unless said."""
        self.setup(store, database=database)
        self.update(store, target, database=database)

    def setup(self, store: str, *, database: str | None = None) -> None:
        """Create the version tables, at 0.0."""
        self.run(database or store, "setup-schema", "--version", "0.0")

    def update(
        self, store: str, target: str | None = None, *, database: str | None = None, folder: Path | None = None
    ) -> None:
        """Continue from the recorded version to another, the last one in the folder unless said.

        The folder is that of the tool's own release unless another is given.
        """
        folder = folder or RELEASES / self.version / "postgresql" / "v12" / FOLDERS[store] / "versioned"
        version = [] if target is None else ["--version", target]
        self.run(database or store, "update-schema", "--schema-dir", str(folder), *version)

    def run(self, store: str, *args: str) -> str:
        """Run one command on a store or a named database; return what it wrote, or raise VendorError."""
        result = subprocess.run(
            [str(binary(self.version)), *args],
            env=self.environment(store),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode:
            raise VendorError(result.stdout)
        return result.stdout

    def environment(self, store: str) -> dict[str, str]:
        """Return the vendor's variables; its own login, because it garbles a password with a space."""
        return {
            "PATH": os.environ["PATH"],
            "SQL_PLUGIN": "postgres12",
            "SQL_HOST": self.databases.host,
            "SQL_PORT": str(self.databases.port),
            "SQL_USER": self.databases.vendor_user,
            "SQL_PASSWORD": self.databases.vendor_password,
            "SQL_DATABASE": self.databases.name(store),
        }


@cache
def binary(version: str) -> Path:
    """Return the program of a release; builds it if it is missing, which takes minutes."""
    subprocess.run([sys.executable, str(BUILDER), version], stdout=subprocess.DEVNULL, check=True)
    command = [sys.executable, str(BUILDER), "--print-path", version]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())

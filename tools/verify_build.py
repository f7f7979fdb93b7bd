"""Builds the wheel, the chart and the images twice, from two clean checkouts, and compares them bit for bit.

An image needs a builder that can rewrite times (BuildKit 0.13 or newer): `docker buildx create --use`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from archive_differences import first_difference

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    "wheel": "wheel",
    "sdist": "sdist",
    "chart": "chart",
    "slim": "dist/images/slim-{arch}.tar",
    "tools": "dist/images/tools-{arch}.tar",
}
"""Each part, and the target of make that builds it."""

RESULTS = {"wheel": "dist/*.whl", "sdist": "dist/*.tar.gz", "chart": "dist/*.tgz"}


class BuildError(Exception):
    """A part could not be built."""


def main() -> int:
    """Build and compare; the exit code is 1 if something differs, or does not build."""
    args = arguments()
    try:
        with tempfile.TemporaryDirectory() as folder:
            checkouts = [checkout(Path(folder, name)) for name in ("first", "another-path")]
            equal = [compare(part, checkouts, args) for part in args.only or TARGETS]
    except BuildError as error:
        sys.stderr.write(f"verify_build: {error}\n")
        return 1
    return int(not all(equal))


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=TARGETS, help="what to build (default: everything)")
    parser.add_argument("--arch", default="amd64", choices=("amd64", "arm64"), help="of the images (default: amd64)")
    parser.add_argument("variables", nargs="*", metavar="NAME=VALUE", help="for make: BASE_IMAGE=..., DOCKER_FLAGS=...")
    return parser.parse_args()


def checkout(folder: Path) -> Path:
    """Return a clean clone of what is committed."""
    run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(folder)])
    return folder


def compare(part: str, checkouts: Sequence[Path], args: argparse.Namespace) -> bool:
    """Build a part in each checkout, and print whether the results are equal."""
    first, second = (build(part, folder, args) for folder in checkouts)
    difference = first_difference(first, second)
    print(f"{part}: {difference or f'identical, {first.stat().st_size} bytes'}", flush=True)
    return not difference


def build(part: str, folder: Path, args: argparse.Namespace) -> Path:
    """Let make build a part without anything that an earlier build left, and return the file."""
    target = TARGETS[part].format(arch=args.arch)
    venv = ROOT / ".venv"
    variables = [f"VENV={venv}", f"ARCH={args.arch}", *args.variables]
    # The environment and helm are those of here, whatever the times of the checkout's files say.
    ready = [option for path in (str(venv / ".stamp"), os.environ["HELM"]) for option in ("-o", path)]
    run(["make", "-C", str(folder), *ready, target, *variables], NO_CACHE="--no-cache")
    return next(folder.glob(RESULTS.get(part, target)))


def run(command: Sequence[str], **variables: str) -> None:
    """Run a command. Raises BuildError with what it wrote."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())

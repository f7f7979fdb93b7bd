"""Prints the stable releases of Temporal that releases.txt lacks, lowest first; `make new-releases` runs it."""

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import fetch
import trees


def main() -> int:
    """Print what is missing; the exit code is 1 after a failure, reported on stderr."""
    try:
        found = missing(listed(), trees.read_table())
    except (fetch.FetchError, OSError) as error:
        sys.stderr.write(f"new_releases: {error}\n")
        return 1
    print("".join(f"{version}\n" for version in found), end="")
    return 0


def listed() -> list[str]:
    """Return the versions of the vendor's module, without a leading "v"; Go leaves retracted ones out."""
    with tempfile.TemporaryDirectory() as folder:
        words = fetch.go("list", "-m", "-versions", fetch.MODULE, folder=Path(folder)).split()
    return [word.removeprefix("v") for word in words[1:]]


def missing(versions: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the final versions that are not known and above the lowest known one, lowest first."""
    known = set(known)
    lowest = min(known, key=trees.order)
    final = {version for version in versions if re.fullmatch(r"\d+\.\d+\.\d+", version)}
    return sorted((each for each in final - known if trees.order(each) > trees.order(lowest)), key=trees.order)


if __name__ == "__main__":
    sys.exit(main())

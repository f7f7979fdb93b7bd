"""Copies the resource definitions that the examples are checked against into crds/; `make crds` runs it."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import fetch

GO_SUM = fetch.HERE / "crds.sum"
CRDS = fetch.HERE.parent / "crds"
FOLDERS: Mapping[str, str] = {
    "github.com/argoproj/argo-cd/v3": "manifests/crds",
    "github.com/cloudnative-pg/cloudnative-pg": "config/crd/bases",
}


def main() -> int:
    """Bring what is missing; the exit code is 1 after a failure, told on stderr."""
    try:
        bring(fetch.read_pins(GO_SUM), CRDS)
    except (fetch.FetchError, OSError) as error:
        sys.stderr.write(f"crds: {error}\n")
        return 1
    return 0


def bring(pins: tuple[fetch.Pin, ...], crds: Path) -> None:
    """Copy the definitions of every pinned project that `crds` lacks, each into a folder of its name and version."""
    missing = [pin for pin in pins if not place(crds, pin).is_dir()]
    if not missing:
        return
    for pin, found in fetch.verified(missing).items():
        shutil.copytree(found.folder / FOLDERS[pin.module], place(crds, pin), copy_function=shutil.copyfile)
        fetch.make_writable(place(crds, pin))
        print(f"fetched {pin.module} {pin.version} into {place(crds, pin)}")


def place(crds: Path, pin: fetch.Pin) -> Path:
    """Return the folder of a project's definitions."""
    return crds / f"{pin.module.split('/')[2]}-{pin.version}"


if __name__ == "__main__":
    sys.exit(main())

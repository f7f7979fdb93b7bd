"""Copies the resource definitions that the examples are checked against into crds/; `make crds` runs it."""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import fetch

GO_SUM = fetch.HERE / "crds.sum"
CRDS = fetch.HERE.parent / "crds"
FILES: Mapping[str, str] = {
    "github.com/argoproj/argo-cd/v3": "manifests/crds/*",
    "github.com/cloudnative-pg/cloudnative-pg": "config/crd/bases/*",
    "github.com/fluxcd/helm-controller": "config/crd/bases/*",
    "github.com/fluxcd/source-controller": "config/crd/bases/*",
    "github.com/external-secrets/external-secrets": "config/crds/bases/external-secrets.io_*",
    "github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd/*_prometheusrules.yaml",
}
"""Where each project has its definitions: of some only those that the examples need, because reading all takes long."""


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
    crds.mkdir(exist_ok=True)
    missing = [pin for pin in pins if not place(crds, pin).is_dir()]
    if not missing:
        return
    for pin, found in fetch.verified(missing).items():
        copy(sorted(found.folder.glob(FILES[pin.module])), place(crds, pin))
        print(f"fetched {pin.module} {pin.version} into {place(crds, pin)}")


def copy(files: Sequence[Path], folder: Path) -> None:
    """Copy files into a folder, which appears with all of them or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".crds-") as name:
        made = Path(name, folder.name)
        made.mkdir()
        for file in files:
            shutil.copyfile(file, made / file.name)
        made.rename(folder)


def place(crds: Path, pin: fetch.Pin) -> Path:
    """Return the folder of a project's definitions."""
    return crds / f"{pin.module.split('/')[2]}-{pin.version}"


if __name__ == "__main__":
    sys.exit(main())

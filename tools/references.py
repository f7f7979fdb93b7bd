"""Check that linked files and headings exist, and the functions that the map of the code names."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAP = ROOT / "docs" / "architecture.md"
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
NAME = re.compile(r"`([a-z_]+(?:\.\w+)+)`")
BLOCK = re.compile(r"```.*?```", re.DOTALL)
PACKAGE = "schema_migrator"


def main() -> None:
    """Print what is missing; end with 1 if something is."""
    missing = [*broken_links(), *unknown_names()]
    if missing:
        sys.exit("\n".join(missing))


def documents() -> list[Path]:
    """Return the Markdown files of the repository, those not yet committed too."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md")
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).exists()]


def broken_links() -> Iterator[str]:
    """Yield each relative link that leads to no file or no heading."""
    for document in documents():
        for target, heading in LINK.findall(BLOCK.sub("", document.read_text(encoding="utf-8"))):
            found = (document.parent / target).resolve() if target else document
            if not found.exists():
                yield f'{document.relative_to(ROOT)} links to "{target}", which does not exist'
            elif heading and heading not in headings(found):
                yield f'{document.relative_to(ROOT)} links to "{target}#{heading}", which has no such heading'


def headings(document: Path) -> set[str]:
    """Return the anchors that a code host gives to the headings of a document."""
    lines = BLOCK.sub("", document.read_text(encoding="utf-8")).splitlines()
    titles = (line.lstrip("# ").lower() for line in lines if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def unknown_names() -> Iterator[str]:
    """Yield each dotted name on the map of the code that leads to nothing in the package."""
    rooms = {path.stem for path in (ROOT / "src" / PACKAGE).iterdir()}
    for name in dict.fromkeys(NAME.findall(MAP.read_text(encoding="utf-8"))):
        if name.partition(".")[0] in rooms and not exists(name):
            yield f"{MAP.relative_to(ROOT)} names {name}, which does not exist"


def exists(name: str) -> bool:
    """Return whether a name such as `room.module.function` exists in the package."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join((PACKAGE, *parts[:length])))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


if __name__ == "__main__":
    main()

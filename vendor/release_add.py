"""Adds a release of Temporal: `make release-add VERSION=1.33.0` runs it.

It extends releases.txt, pins the module in go.sum if its files are new, fetches them, says what is new in them, and
compares our result with that of the release's own tool.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import fetch
import trees

from schema_migrator.errors import MigratorError
from schema_migrator.releases.library import Library, ranges
from schema_migrator.releases.source import Release, Source, Step, Store

_VERBS = frozenset({"ADD", "DROP", "ALTER", "RENAME"})
_NOUNS = frozenset({"COLUMN", "CONSTRAINT", "PRIMARY", "TABLE", "INDEX"})
COMPARISON = "tests/acceptance/test_equality.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The files that describe the releases, and the folder with theirs."""

    table: Path = trees.TABLE
    go_sum: Path = fetch.GO_SUM
    releases: Path = fetch.RELEASES


def main() -> int:
    """Add the release that the command line names; the exit code is 1 after a failure, told on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="the server's version, such as 1.33.0")
    parser.add_argument("--no-compare", action="store_true", help="do not build the release's tool and compare")
    args = parser.parse_args()
    try:
        for line in add(args.version.removeprefix("v"), Place()):
            print(line, flush=True)
    except (fetch.FetchError, MigratorError, OSError) as error:
        sys.stderr.write(f"release_add: {error}\n")
        return 1
    return 0 if args.no_compare else compare(args.version.removeprefix("v"))


def add(version: str, place: Place) -> Iterator[str]:
    """Extend the table, the pins and the folder; yield what is new, line by line.

    Raises FetchError if the version is no release or is in the table already; then nothing is written.
    """
    table = trees.read_table(place.table)
    check_new(version, table)
    (item,) = fetch.download([fetch.Pin(module=fetch.MODULE, version=version, zip_hash=None, mod_hash=None)])
    tree = trees.tree_id(item.folder / "schema" / fetch.SCHEMA)
    sharing = [other for other, known in table.items() if known == tree]
    before = previous(version, table, place)
    if not sharing:
        pin(item, place.go_sum)
    trees.write_table({**table, version: tree}, place.table)
    fetch.fetch(fetch.read_pins(place.go_sum), trees.read_table(place.table), place.releases)
    yield f"{version} has the git tree {tree}"
    if sharing:
        yield f"these are the files of {', '.join(ranges(sharing))}: no file is new"
    else:
        yield from news(before, Library(folders=(place.releases,)).release(version))


def check_new(version: str, table: dict[str, str]) -> None:
    """Raise FetchError unless the version has three numbers and is not in the table."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise fetch.FetchError(f'"{version}" is no release, expected a version such as 1.33.0')
    if version in table:
        raise fetch.FetchError(f"{version} is in releases.txt already")


def previous(version: str, table: dict[str, str], place: Place) -> Release:
    """Return the highest release below the version, or the lowest one if there is none."""
    below = [other for other in table if trees.order(other) < trees.order(version)]
    return Library(folders=(place.releases,)).release(below[-1] if below else next(iter(table)))


def pin(item: fetch.Download, go_sum: Path) -> None:
    """Add a module's two hashes to go.sum, in the order of versions."""
    new = [
        f"{item.module} v{item.version} {item.zip_hash}",
        f"{item.module} v{item.version}/go.mod {item.mod_hash}",
    ]
    lines = sorted(go_sum.read_text(encoding="utf-8").splitlines() + new, key=_order)
    go_sum.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _order(line: str) -> tuple[tuple[int, ...], bool]:
    version, _, kind = line.split()[1].removeprefix("v").partition("/")
    return trees.order(version), bool(kind)


def news(before: Release, after: Release) -> Iterator[str]:
    """Yield what the files of a release have that those of an older one lack."""
    for store in (Store.DEFAULT, Store.VISIBILITY):
        old, new = before.source(store), after.source(store)
        lines = [*new_steps(old, new), *changed_steps(old, new), *new_kinds(old, new)]
        yield f"{store} store, compared with {before.version}:" + ("" if lines else " nothing is new")
        yield from (f"  {line}" for line in lines)


def new_steps(old: Source, new: Source) -> Iterator[str]:
    """Yield a line for each version that only the newer files have."""
    for step in new.steps:
        if step.version not in old.versions:
            yield f"new version {step.version}: {step.description or 'no description'} ({counted(step)})"


def changed_steps(old: Source, new: Source) -> Iterator[str]:
    """Yield a line for each version whose text changed: databases may have what the older text made."""
    known = {step.version: step for step in old.steps}
    for step in new.steps:
        earlier = known.get(step.version)
        if earlier is not None and texts(earlier) != texts(step):
            yield f"version {step.version} has another text: {counted(earlier)} before, {counted(step)} now"
    for version in known.keys() - {*new.versions}:
        yield f"version {version} is gone"


def new_kinds(old: Source, new: Source) -> Iterator[str]:
    """Yield a line for each kind of statement that no older file has."""
    seen = {kind(text) for step in old.steps for text in texts(step)}
    found = {kind(text): step.version for step in reversed(new.steps) for text in texts(step)}
    for name in sorted(found.keys() - seen):
        yield f"a kind of statement that no earlier file has: {name}, in version {found[name]}"


def texts(step: Step) -> tuple[str, ...]:
    """Return the statements' texts."""
    return tuple(statement.text for statement in step.statements)


def kind(text: str) -> str:
    """Return what a statement does, as its first words and those that change how it runs."""
    words = text.upper().split()
    start = words[:1] if words[0] in ("INSERT", "UPDATE", "DELETE", "DO") else words[:2]
    actions = [f"{verb} {noun}" for verb, noun in pairwise(words) if verb in _VERBS and noun in _NOUNS]
    extra = [word for word in ("UNIQUE", "CONCURRENTLY", "GENERATED", "STORED", "REFERENCES") if word in words]
    return " ".join(dict.fromkeys([*start, *(action for action in actions if action.split() != start), *extra]))


def counted(step: Step) -> str:
    """Return the number of a step's statements in words."""
    count = len(step.statements)
    return "no statement" if count == 0 else "1 statement" if count == 1 else f"{count} statements"


def compare(version: str) -> int:
    """Build the release's own tool, and run the tests that compare with it; return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", COMPARISON, "-k", version]
    # The tests then take the release even if its files, and so its pin, are another release's.
    env = {**os.environ, "SCHEMA_MIGRATOR_TEST_RELEASE": version}
    return subprocess.run(command, cwd=fetch.HERE.parent, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

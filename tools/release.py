"""Checks that a tag fits the repository, and takes a release's notes from CHANGELOG.md.

`make release-check TAG=v0.1.0` and `make release-notes` run it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = "charts/temporal-migrations/Chart.yaml"
PACKAGE = "src/schema_migrator/__init__.py"
HEADING = re.compile(r"^## (?P<version>\S+) - (?P<date>.+)$", re.MULTILINE)
RELATIVE = re.compile(r"\]\((?!https?:|#)(?P<path>[^)\s]+)\)")
BLOCK_START = re.compile(r"#|- |\* |\d+\. |\||```|>")


class ReleaseError(Exception):
    """The repository is not what a release needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the repository says of its version; `heading` and `dated` are of the changelog's first entry."""

    versions: Mapping[str, str]
    heading: str
    dated: str


def main() -> int:
    """Do what the command line asks; the exit code is 1 after a failure, reported on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="compare a tag with every place that has the version").add_argument("tag")
    notes = commands.add_parser("notes", help="print what CHANGELOG.md says about the version")
    notes.add_argument("--source", default="", help="the address that relative links start with")
    args = parser.parse_args()
    try:
        found = facts(ROOT)
        lines = check(args.tag, found) if args.command == "check" else [release_notes(found, args.source)]
    except ReleaseError as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    print("\n".join(lines))
    return 0


def facts(root: Path) -> Facts:
    """Read the versions and the changelog's first entry."""
    chart = yaml.safe_load((root / CHART).read_text(encoding="utf-8"))
    package = re.search(r'^__version__ = "(.+)"$', (root / PACKAGE).read_text(encoding="utf-8"), re.MULTILINE)
    entry = HEADING.search((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if package is None or entry is None:
        raise ReleaseError(f"expected `__version__` in {PACKAGE}, and a heading `## VERSION - DATE` in CHANGELOG.md")
    versions = {
        f"__version__ in {PACKAGE}": package[1],
        f"version in {CHART}": str(chart["version"]),
        f"appVersion in {CHART}": str(chart["appVersion"]),
    }
    return Facts(versions=versions, heading=entry["version"], dated=entry["date"])


def check(tag: str, found: Facts) -> list[str]:
    """Return the sentence for a repository that fits the tag. Raises ReleaseError with everything that does not."""
    if wrong := list(problems(tag, found)):
        raise ReleaseError("; ".join(wrong))
    return [f"{tag} fits the package, the chart and CHANGELOG.md"]


def problems(tag: str, found: Facts) -> Iterator[str]:
    """Yield each place that does not have the tag's version, and a date that is none."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        yield f'the tag is "{tag}", expected one such as v0.1.0'
        return
    version = tag.removeprefix("v")
    places = {**found.versions, "the first heading of CHANGELOG.md": found.heading}
    for place, other in places.items():
        if other != version:
            yield f"{place} is {other}, expected {version}: change it and run `make docs`, or tag another commit"
    if not is_date(found.dated):
        yield f'CHANGELOG.md dates {found.heading} "{found.dated}", expected a date such as 2026-01-31'


def is_date(text: str) -> bool:
    """Return whether a text is a day such as 2026-01-31."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def release_notes(found: Facts, source: str) -> str:
    """Return the notes of the version in the repository."""
    return notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), found.heading, source)


def notes(changelog: str, version: str, source: str = "") -> str:
    """Return an entry's text without its heading, each paragraph on one line, relative links below `source`.

    Code hosts show a line break of the notes as one, so the changelog's wrapped lines are joined.
    """
    entries = list(HEADING.finditer(changelog))
    place = next((index for index, entry in enumerate(entries) if entry["version"] == version), None)
    if place is None:
        raise ReleaseError(f"CHANGELOG.md has no heading for {version}, expected `## {version} - DATE`")
    end = entries[place + 1].start() if place + 1 < len(entries) else len(changelog)
    text = unwrapped(changelog[entries[place].end() : end].strip())
    return RELATIVE.sub(lambda link: f"]({source.rstrip('/')}/{link['path']})", text) if source else text


def unwrapped(text: str) -> str:
    """Return the text with the lines of a paragraph or list item joined; code blocks stay."""
    lines: list[str] = []
    code = False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        new = code or fence or not line.strip() or not lines or not lines[-1].strip()
        if new or BLOCK_START.match(line.lstrip()) or lines[-1].startswith("#") or lines[-1].lstrip().startswith("```"):
            lines.append(line)
        else:
            lines[-1] = f"{lines[-1].rstrip()} {line.strip()}"
        code ^= fence
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

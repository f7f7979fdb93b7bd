"""What the tools on the online rewrite's reliability have found: files in docs/reliability, to which each run adds."""

import json
import re
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.postgres.databases import RELEASES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Outcome = Mapping[str, Any]

ROOT = RELEASES.parent
KEPT = ROOT / "docs" / "reliability"
FAULTS = KEPT / "faults.jsonl"
POINTS = KEPT / "points.json"
"""How many points a sweep has that leaves none out."""
FAILOVERS = KEPT / "failovers.jsonl"
SCHEDULES = KEPT / "schedules.json"
SITUATIONS = KEPT / "situations.json"
MUTANTS = KEPT / "mutants.json"
SURVIVORS = ROOT / "tests" / "data" / "survivors.toml"
"""Why no test has to find some of the mutants, each named by the lines that it changes."""
SABOTAGES = KEPT / "sabotages.json"
NAMES = re.compile(r"\S+@\S+|\btemporal_\w+|\b\d+(\.\d+)?\b")
LONGEST = 110


def add(path: Path, outcome: "DataclassInstance") -> Outcome:
    """Add an outcome with the commit that is checked out; a statement only where something is wrong. Return it."""
    found = asdict(outcome) | {"commit": commit()}
    if not found["problem"]:
        found["said"] = anonymous(found["said"])
        found.pop("statement", None)
    KEPT.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as out:
        print(json.dumps(found), file=out)
    return found


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write what a run has found in place of an earlier one."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def outcomes(path: Path) -> list[Outcome]:
    """Return the outcomes that were added to a file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def read(path: Path) -> Mapping[str, Any]:
    """Return what a file has, or nothing."""
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def explained(survivor: Mapping[str, str]) -> str:
    """Return why no test has to find a mutant, or nothing."""
    return _explanations().get((survivor["function"], survivor["before"], survivor["after"]), "")


@cache
def _explanations() -> Mapping[tuple[str, str, str], str]:
    found = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"] if SURVIVORS.exists() else []
    return {(mutant["function"], mutant["before"], mutant["after"]): mutant["why"] for mutant in found}


def anonymous(sentence: str) -> str:
    """Return a sentence without names and numbers, cut where it gets long."""
    plain = NAMES.sub("…", sentence).replace("|", "/")
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}…"


@cache
def commit() -> str:
    """Return the commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

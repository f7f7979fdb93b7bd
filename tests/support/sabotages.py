"""Faults by hand in the program's own code, each of which some test has to find: tests/data/sabotages.toml."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import schema_migrator
from support.selection import TESTS

SOURCE = Path(schema_migrator.__file__).parent
FAULTS = TESTS / "data" / "sabotages.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """A fault: what it is, a file of the package, the text in it and what takes its place, and pytest's arguments."""

    what: str
    file: str
    old: str
    new: str
    tests: Sequence[str]

    def planted(self, source: Path) -> str:
        """Return the file's text with the fault. Raises ValueError unless its place is there once."""
        text = (source / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {text.count(self.old)} places for: {self.what}")
        return text.replace(self.old, self.new)


def sabotages() -> Sequence[Sabotage]:
    """Return all of them."""
    listed = tomllib.loads(FAULTS.read_text(encoding="utf-8"))["fault"]
    return [Sabotage(**fault) for fault in listed]

"""What `make test` leaves to the matrix is written down in tests/README.md, and nothing else is."""

import ast
import re
from pathlib import Path

import pytest

from support.selection import FAMILIES, Spread, chosen

TESTS = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| `(test_\w+\.py::test_\w+)` \| (\d+) \| (\d+) \|$", re.MULTILINE)


def test_every_family_is_written_down() -> None:
    """Each family has its line, with some cases in either place."""
    rows = ROW.findall((TESTS / "README.md").read_text(encoding="utf-8"))
    assert [family for family, _, _ in rows] == list(FAMILIES)
    assert [family for family, kept, left in rows if "0" in (kept, left)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_there(family: str) -> None:
    """A test that was renamed does not come back into `make test` unseen."""
    file, _, name = family.partition("::")
    (path,) = [found for found in TESTS.rglob(file) if found.parent.name in ("acceptance", "integration")]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_a_spread() -> None:
    """What always stays stays, and every so many-th of the others."""
    names = [f"test[{letter}]" for letter in "abcdefg"]
    assert chosen(Spread(every=3, always="^b$"), names) == {"test[b]", "test[a]", "test[e]"}

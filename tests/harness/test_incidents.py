"""docs/incidents.md names tests; they are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "incidents.md").read_text(encoding="utf-8")


def functions(file: str) -> set[str]:
    """Return the names of a file's functions."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_named_test_is_there() -> None:
    """A test that was renamed or deleted is noticed here."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 30
    assert [f"{file}::{name}" for file, name in named if name not in functions(file)] == []


def test_every_incident_has_a_test() -> None:
    """Each entry, which begins with what was seen, names at least one."""
    entries = re.split(r"^\*\*", PAGE, flags=re.MULTILINE)[1:]
    assert len(entries) > 15
    assert [entry.partition("**")[0] for entry in entries if "::test_" not in entry] == []

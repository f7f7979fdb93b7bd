"""What `make test` runs is chosen by measured durations, fits eight minutes, and names only tests that are there."""

import ast
from pathlib import Path

import pytest

from support.selection import CORE, EXPECTED_SECONDS, SECONDS, TESTS, chosen, limit, measured

EIGHT_MINUTES_ON_TWO_CORES = 2 * 8 * 60


def functions(path: Path) -> set[str]:
    """Return the functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("named", [CORE, measured()], ids=["core", "durations"])
def test_every_function_is_there(named: dict[str, float]) -> None:
    """A test that was renamed does not come back into `make test` unseen, nor leave it."""
    files = {file: functions(TESTS / file) for file in {function.partition("::")[0] for function in named}}
    missing = [each for each in named if each.partition("::")[2] not in files[each.partition("::")[0]]]
    assert not missing, "rename them in tests/data/durations.json or tests/support/selection.py"


def test_what_stays_fits(request: pytest.FixtureRequest) -> None:
    """As far as it was measured; of a part of the tests, that part."""
    assert request.config.stash[EXPECTED_SECONDS] < EIGHT_MINUTES_ON_TWO_CORES


def test_how_many_cases_stay() -> None:
    """By time, or as the list says; a function that nobody has measured stays whole."""
    core = next(iter(CORE))
    assert limit("a::b", {}) is None
    assert limit("a::b", {"a::b": SECONDS / 3.5}) == 3
    assert limit("a::b", {"a::b": SECONDS * 1.1}) == 0
    assert limit(core, {core: 100.0}) == CORE[core]


def test_an_even_spread() -> None:
    """The first case is always among those that stay."""
    assert chosen(3, "abcdefg") == ["a", "c", "e"]
    assert chosen(1, "abc") == ["a"]
    assert chosen(0, "abc") == []
    assert chosen(4, "abc") == chosen(None, "abc") == "abc"

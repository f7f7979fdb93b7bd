"""What the tests in a cluster measured, as a page."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass

HEAD = """# In a cluster: what was measured

Written by `make test-e2e RESULTS=docs/kubernetes.md`. Each line is a test that passed; the behaviour is
what it asserts.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A test that passed: its group, its name, its sentence, and what it measured."""

    group: str
    test: str
    behaviour: str
    measured: str


def page(results: list[Result], versions: Mapping[str, str]) -> str:
    """Return the page."""
    used = "\n".join(f"- {name} {version}" for name, version in versions.items())
    groups = dict.fromkeys(result.group for result in results)
    tables = "\n\n".join(table(group, [one for one in results if one.group == group]) for group in groups)
    return f"{HEAD}\n{used}\n- {platform.system()} {platform.machine()}\n\n{tables}\n"


def table(group: str, results: list[Result]) -> str:
    """Return a group's table."""
    rows = [f"| {one.behaviour} | {one.measured} | `{one.test}` |" for one in results]
    return "\n".join([f"## {group}", "", "| behaviour | measured | test |", "| --- | --- | --- |", *rows])

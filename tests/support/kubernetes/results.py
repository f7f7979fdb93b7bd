"""What the tests in a cluster measured, as a page."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HEAD = """# In a cluster: what was measured

Written by `make test-e2e RESULTS=docs/kubernetes.md`. Each line is a test that passed, with the behaviour that it
asserts.

## What the Job's exit code says

Of a failed hook, Argo CD shows nothing but the exit code. The Job's `podFailurePolicy` does not count disrupted pods,
and fails the Job immediately for every code that a retry cannot cure. `make docs` writes this table.

<!-- exit-codes -->
<!-- /exit-codes -->
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A test that passed: its group, its name, its sentence, and what it measured."""

    group: str
    test: str
    behaviour: str
    measured: str


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Keeps the reports of tests that passed, whichever process they ran in, and writes the page after all."""

    place: Path
    versions: Callable[[], dict[str, str]]
    reports: list[pytest.TestReport] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test has measured."""
        if report.when == "call" and report.passed and said(report, "measured"):
            self.reports.append(report)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the page, if all passed."""
        if exitstatus == pytest.ExitCode.OK and self.reports:
            found = sorted(self.reports, key=lambda report: report.nodeid)
            servers = {"PostgreSQL": said(found[0], "PostgreSQL")}
            self.place.write_text(page([result(one) for one in found], self.versions() | servers), encoding="utf-8")


def result(report: pytest.TestReport) -> Result:
    """Return what the page says of a test."""
    return Result(
        group=said(report, "group"),
        test=report.nodeid.rpartition("::")[2],
        behaviour=said(report, "behaviour"),
        measured=said(report, "measured"),
    )


def said(report: pytest.TestReport, name: str) -> str:
    """Return what a test noted under a name."""
    return "; ".join(str(value) for key, value in report.user_properties if key == name)


def page(results: list[Result], versions: Mapping[str, str]) -> str:
    """Return the page."""
    used = "\n".join(f"- {name} {version}" for name, version in versions.items())
    groups = dict.fromkeys(result.group for result in results)
    tables = "\n\n".join(table(group, [one for one in results if one.group == group]) for group in groups)
    return f"{HEAD}\n{used}\n- {platform.system()} {platform.machine()}\n\n{tables}\n"


def table(group: str, results: list[Result]) -> str:
    """Return a group's table."""
    rows = [f"| {cell(one.behaviour)} | {cell(one.measured)} | `{one.test}` |" for one in results]
    return "\n".join([f"## {group}", "", "| behaviour | measured | test |", "| --- | --- | --- |", *rows])


def cell(text: str) -> str:
    """Return a text on one line, as a table takes it."""
    return " ".join(text.split()).replace("|", "\\|")

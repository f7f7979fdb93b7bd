"""The one table of exit codes, and who has to agree with it: errors, help, documents, the chart's Jobs."""

import inspect
import json
import re
from pathlib import Path

import pytest

from schema_migrator import errors, events
from schema_migrator.cli import arguments, failures, process
from schema_migrator.errors import MigratorError, RetryableError, SeveralErrors, Stopped
from schema_migrator.exit_codes import BUG, CODES, HOPELESS

ROOT = Path(__file__).resolve().parent.parent.parent
NUMBERS = [code.number for code in CODES]
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MigratorError)]
SECRET = "hunter2-of-mine"


def test_each_error_is_in_the_table() -> None:
    """No class ends with a code that is not told, and every code below the signals is some error's or a bug's."""
    used = {kind.exit_code for kind in KINDS}
    assert used <= set(NUMBERS)
    assert {number for number in NUMBERS if number < 128} == used | {0, BUG}
    assert [errors.exit_code(Stopped(number)) for number in (1, 2, 15)] == [129, 130, 143]
    assert {129, 130, 143} <= set(NUMBERS)


def test_only_what_may_succeed_later_is_retried() -> None:
    """1 is what a retry can cure, 4 another run's lock; every cause for a person is hopeless."""
    assert sorted(NUMBERS) == NUMBERS
    assert set(NUMBERS) - set(HOPELESS) == {0, 1, 4, 129, 130, 143}
    assert {kind for kind in KINDS if kind.exit_code == 1} == {
        kind for kind in KINDS if issubclass(kind, RetryableError)
    }
    assert list(HOPELESS) == sorted(set(HOPELESS))  # Kubernetes wants them ordered, each once


def test_the_causes_differ() -> None:
    """Whoever sees the code alone knows what to settle."""
    causes = {kind.__name__: kind.exit_code for kind in KINDS if 9 < kind.exit_code < BUG}
    # Of NamespaceRefused, of drift, and of a login that fails.
    shared = {"NotFound", "AlreadyExists", "HarmfulDrift", "TokenRefused"}
    assert len(set(causes.values())) == len(causes.keys() - shared)


def test_the_chart_fails_the_job_on_each() -> None:
    """A disrupted pod is left out before any code counts, and no code that a retry cures ends the Job."""
    text = (ROOT / "charts/temporal-migrations/templates/_helpers.tpl").read_text()
    policy = text[text.index("podFailurePolicy:") :]
    policy = policy[: policy.index("template:")]
    assert re.findall(r"action: (\w+)", policy) == ["Ignore", "FailJob"]
    assert policy.index("DisruptionTarget") < policy.index("FailJob")
    (values,) = re.findall(r"values: \[([^\]]*)\]", policy)
    assert tuple(map(int, values.split(","))) == HOPELESS


def test_the_help_tells_each() -> None:
    """`--help` names every code."""
    words = " ".join(arguments.parser().format_help().split())
    assert all(f"{code.number} {code.name}" in words for code in CODES)


@pytest.mark.parametrize("document", ["docs/reference/exit-codes.md", "docs/kubernetes.md"])
def test_the_documents_tell_each(document: str) -> None:
    """The table is there with every code."""
    text = (ROOT / document).read_text()
    assert all(f"| {code.number} | {code.name} |" in text for code in CODES)


@pytest.fixture
def log(tmp_path: Path, clean: pytest.MonkeyPatch) -> Path:
    """Return a termination log that is used."""
    path = tmp_path / "termination-log"
    path.write_text("before")
    clean.setenv("SCHEMA_MIGRATOR_TERMINATION_LOG", str(path))
    return path


def faulty(text: str) -> int:
    """Run what has a bug whose words are these."""

    def work(_arguments: dict[str, object]) -> str:
        raise KeyError(text)

    return process.run(["status"], lambda _: {}, work)


def test_a_bug(log: Path, clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line and 70; the termination message ends with the traceback, and no secret that was given is in it."""
    clean.setenv("SQL_PASSWORD", SECRET)
    assert faulty(f"with {SECRET}") == BUG
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if not line.startswith("{")]
    assert re.fullmatch(
        r"error: a bug in this program: KeyError in test_exit_codes\.py, line \d+; "
        r"please report it with the traceback that --log-level debug shows",
        line,
    )
    said = log.read_text()
    assert out == ""
    assert said.startswith("exit code 70: a bug in this program: KeyError")
    assert said.endswith("KeyError: 'with ***'\n")
    assert SECRET not in said + err


def test_a_bug_at_level_debug(log: Path, clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is shown, and of an endless one the end is kept for the termination message."""
    clean.setenv("SCHEMA_MIGRATOR_LOG_LEVEL", "debug")
    assert faulty("x" * 9000) == BUG
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert len(log.read_text()) <= 4096
    assert log.read_text().endswith("x'\n")


@pytest.mark.parametrize(
    ("argv", "variable", "found"),
    [
        ([], None, False),
        ([], "json", True),
        (["--output", "json"], None, True),
        (["--output=json"], None, True),
        (["--output", "text"], "json", False),
        (["--output=json", "--output=text"], None, False),
        (["--output"], None, False),
    ],
)
def test_json_is_known_before_the_flags_are(
    clean: pytest.MonkeyPatch, argv: list[str], variable: str | None, *, found: bool
) -> None:
    """A mistake in the flags is told as JSON too."""
    if variable:
        clean.setenv("SCHEMA_MIGRATOR_OUTPUT", variable)
    assert failures.wants_json(argv, {}) is found


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_as_values(kind: type[MigratorError]) -> None:
    """Kind, found, expected, hint and store stand apart, and the code is the process's."""
    if kind in (Stopped, SeveralErrors):
        return
    error = kind("a is 1, expected 2", hint="set it", store="default", detail="below")
    found = failures.as_values(error)
    assert found == {
        "kind": re.sub(r"\B([A-Z])", r"_\1", kind.__name__).lower(),
        "exit_code": kind.exit_code,
        "found": "a is 1",
        "expected": "2",
        "hint": "set it",
        "detail": "below",
        "store": "default",
    }
    assert json.loads(json.dumps(events.plain(found))) == found

"""What people see at a terminal: widths, colours, events as lines."""

import re

import pytest

from support.postgres.databases import Databases
from support.program.command import run_cli
from support.program.terminal import run_at_terminal

SGR = re.compile(r"\x1b\[[0-9;]*m")


def bare(text: str) -> str:
    """Return the text without colours, without blanks where lines end."""
    return "\n".join(line.rstrip() for line in SGR.sub("", text).splitlines())


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize("command", ["status", "plan"])
def test_results_fit(databases: Databases, command: str, columns: int) -> None:
    """No line is wider than the terminal, and its words are those of a pipe."""
    older = {"VISIBILITY_TARGET_VERSION": "1.7", "DEFAULT_TARGET_VERSION": "1.13"}
    done = run_cli(databases.env() | older | {"SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "true"}, "migrate")
    assert done.code == 0, done.stderr
    shown = run_at_terminal(databases.env(), command, columns=columns)
    assert shown.code == 0, shown.stderr
    assert max(map(len, bare(shown.stdout).splitlines())) <= columns
    piped = run_cli(databases.env(), command).stdout
    assert "\x1b" not in piped
    if columns == 80 and command == "status":
        assert bare(shown.stdout).split() == piped.split()


@pytest.mark.parametrize(
    ("variables", "term", "coloured"),
    [
        ({}, "xterm-256color", True),
        ({}, "dumb", False),
        ({"NO_COLOR": "1"}, "xterm-256color", False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, "xterm-256color", False),
    ],
)
def test_colours(databases: Databases, variables: dict[str, str], term: str, coloured: bool) -> None:  # noqa: FBT001
    """Where the terminal shows them, unless they are refused; the words are the same."""
    shown = run_at_terminal(databases.env() | variables, "status", term=term)
    assert (shown.code, "\x1b[33mempty: installs it" in shown.stdout) == (0, coloured), shown
    assert ("\x1b" in shown.stdout) is coloured
    assert "empty: installs it" in bare(shown.stdout)


def test_forced_colours(databases: Databases) -> None:
    """FORCE_COLOR colours a pipe too, but never JSON."""
    env = databases.env() | {"FORCE_COLOR": "1"}
    assert "\x1b[33mempty: installs it" in run_cli(env, "status").stdout
    assert "\x1b" not in run_cli(env, "status", "--output", "json").stdout
    assert "\x1b[31merror:\x1b[0m " in run_cli(env, "status", "--nix").stderr


def test_events(databases: Databases) -> None:
    """An event is a line, and the first and the last one of a run do not show."""
    shown = run_at_terminal(databases.env(), "migrate", columns=140)
    assert shown.code == 0, shown.stderr
    lines = bare(shown.stderr).splitlines()
    assert all(
        re.match(r"\d\d:\d\d:\d\d (warning )?((default|visibility): )?[a-z_]+\.[a-z_]+( |$)", line) for line in lines
    )
    assert any(
        re.search(r"visibility: schema\.installed version=1\.14 steps=\d+ seconds=[\d.]+$", line) for line in lines
    )
    assert "\x1b[32m" in shown.stdout

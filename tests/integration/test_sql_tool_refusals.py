"""What is refused of the vendor's binary: before connecting where it does not fit, afterwards where it fails."""

import json
from pathlib import Path

import pytest

from support.program.command import run_cli
from support.program.refusals import Refusals, errors

LIES = """#!/bin/sh
if [ "$1" = --version ]; then echo "temporal-sql-tool version {version}"; exit 0; fi
printf 'now\\tINFO\\tSchema setup complete\\t{{"password": "%s", "message": "all is well"}}\\n' "$SQL_PASSWORD"
exit {code}
"""


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """Return where the binary is said to be."""
    return tmp_path / "temporal-sql-tool"


def refused(refusals: Refusals, code: int, tool: Path, **changes: str) -> list[str]:
    """Return the refusal of a run with that binary."""
    chosen = {"SCHEMA_MIGRATOR_EXECUTOR": "sql-tool", "SCHEMA_MIGRATOR_SQL_TOOL": str(tool)}
    return refusals.refused(code, **chosen, **changes)


def program(tool: Path, text: str) -> Path:
    """Make the binary a script."""
    tool.write_text(text)
    tool.chmod(0o755)
    return tool


def test_not_named(refusals: Refusals) -> None:
    """The executor needs a binary."""
    assert refusals.refused(2, SCHEMA_MIGRATOR_EXECUTOR="sql-tool") == [
        (
            "error: the executor is sql-tool, but SCHEMA_MIGRATOR_SQL_TOOL is not set; set it to the path of the"
            " vendor's binary"
        )
    ]


def test_not_there(refusals: Refusals, tool: Path) -> None:
    """A path that leads nowhere is named."""
    assert refused(refusals, 2, tool) == [
        (
            f'error: SCHEMA_MIGRATOR_SQL_TOOL "{tool}" cannot be run (No such file or directory); '
            "correct SCHEMA_MIGRATOR_SQL_TOOL"
        )
    ]


def test_not_executable(refusals: Refusals, tool: Path) -> None:
    """A file that may not be run is named, and so is one that no system runs."""
    tool.write_text("no program")
    for mode, reason in ((0o644, "Permission denied"), (0o755, "Exec format error")):
        tool.chmod(mode)
        (line,) = refused(refusals, 2, tool)
        assert f'"{tool}" cannot be run ({reason})' in line


def test_another_program(refusals: Refusals, tool: Path) -> None:
    """A program that is not the vendor's tool does not get the password."""
    program(tool, "#!/bin/sh\necho hello\n")
    assert refused(refusals, 2, tool) == [
        (
            f'error: SCHEMA_MIGRATOR_SQL_TOOL "{tool}" does not report its version as temporal-sql-tool does; '
            "name the vendor's binary of release 1.32.2"
        )
    ]


def test_another_release(refusals: Refusals, tool: Path) -> None:
    """Each release's tool reads its own files only."""
    program(tool, LIES.format(version="1.29.1", code=0))
    assert refused(refusals, 2, tool) == [
        (
            f'error: SCHEMA_MIGRATOR_SQL_TOOL "{tool}" is from release 1.29.1, expected 1.32.2 like the files; '
            "set TEMPORAL_VERSION=1.29.1, or name another binary"
        )
    ]


def test_password_that_it_garbles(refusals: Refusals, tool: Path) -> None:
    """The tool sends + for a blank; the server would answer that the password is wrong."""
    program(tool, LIES.format(version="1.32.2", code=0))
    assert refused(refusals, 2, tool, SCHEMA_MIGRATOR_STORES="visibility") == [
        (
            "error: visibility: SQL_PASSWORD has a character that the vendor's tool cannot send; "
            "use the native executor, or another name or password"
        )
    ]


@pytest.mark.parametrize("code", [0, 1])
def test_exit_status_is_not_believed(refusals: Refusals, tool: Path, code: int) -> None:
    """A tool that did nothing has failed, whatever it says; and what it says of the password is hidden."""
    program(tool, LIES.format(version="1.32.2", code=code))
    databases = refusals.databases
    env = refusals.env(
        SCHEMA_MIGRATOR_EXECUTOR="sql-tool",
        SCHEMA_MIGRATOR_SQL_TOOL=str(tool),
        SCHEMA_MIGRATOR_STORES="default",
        SQL_USER=databases.vendor_user,
        SQL_PASSWORD=databases.vendor_password,
    )
    before = refusals.picture()
    done = run_cli(env, "migrate")
    assert (done.code, refusals.picture()) == (1, before)
    assert errors(done) == [
        (
            f'error: default: the vendor\'s tool left "{databases.default}" at no version, expected 0.0: '
            f"exit code {code}; run this again: what it left half-applied is completed by the native executor, or named"
        )
    ]
    said = next(
        event for event in map(json.loads, done.stderr.splitlines()[:-1]) if event["event"] == "sql_tool.output"
    )
    assert said["password"] == "***"
    assert databases.vendor_password not in done.stderr


def test_what_it_says_is_no_text(refusals: Refusals, tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no letters, and values with the names of ours, end no run; `./` is the folder here."""
    says = """'now\\tINFO\\tabc\\377\\t{{"event": 1, "level": 2, "message": 3, "mine": [{{"a": 1}}]}}\\n'"""
    lines = LIES.format(version="1.32.2", code=1).splitlines()
    program(
        tool,
        "\n".join(
            [*lines[:2], f"printf {says.format()}", "printf 'now\\tINFO\\tx\\t%0100000d\\n' 0 | tr 0 [", "exit 1"]
        ),
    )
    monkeypatch.chdir(tool.parent)
    databases = refusals.databases
    env = refusals.env(
        SCHEMA_MIGRATOR_EXECUTOR="sql-tool",
        SCHEMA_MIGRATOR_SQL_TOOL=f"./{tool.name}",
        SCHEMA_MIGRATOR_STORES="default",
        SQL_USER=databases.vendor_user,
        SQL_PASSWORD=databases.vendor_password,
    )
    done = run_cli(env, "migrate")
    assert done.code == 1, done.stderr
    said = [event for event in map(json.loads, done.stderr.splitlines()[:-1]) if event["event"] == "sql_tool.output"]
    assert [event["message"] for event in said] == ["abc\ufffd", "x"]
    assert said[0]["mine"] == [{"a": 1}]

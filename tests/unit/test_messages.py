"""What people read, compared with files; SCHEMA_MIGRATOR_TEST_WRITE=1 rewrites the files."""

import os
from pathlib import Path

import pytest

import schema_migrator
from schema_migrator.cli import arguments, vendor_flags
from support.program.messages import sentences

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "messages"
COMMANDS = ("", "migrate", "plan", "status", "verify", "wait", "releases", "create-database", "namespaces", "demo")
DROPIN = ("", "create-database", "drop-database", "setup-schema", "update-schema", "describe-schema")


def compare(name: str, text: str) -> None:
    """Compare a text with its file, or write the file. Where lines are broken depends on Python's version."""
    path = GOLDEN / name
    if os.environ.get("SCHEMA_MIGRATOR_TEST_WRITE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text.split() == path.read_text(encoding="utf-8").split()


def test_sentences() -> None:
    """Every sentence in the code stands in the file, and no other: a change of words shows as a change of words."""
    compare("sentences.txt", "\n".join(sentences(Path(schema_migrator.__file__).parent)) + "\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As it looks in a terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        arguments.parser().parse_args([*filter(None, [command]), "--help"])
    compare(f"help/{command or 'all'}.txt", capsys.readouterr().out)


@pytest.mark.parametrize("command", DROPIN)
def test_help_of_the_dropin(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for temporal-sql-tool."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        vendor_flags.parser().parse_args([*filter(None, [command]), "--help"])
    compare(f"help/temporal-sql-tool-{command or 'all'}.txt", capsys.readouterr().out)


def test_no_file_without_a_command() -> None:
    """What is compared with nothing is removed."""
    names = {command or "all" for command in COMMANDS} | {f"temporal-sql-tool-{one or 'all'}" for one in DROPIN}
    assert {path.stem for path in (GOLDEN / "help").iterdir()} == names

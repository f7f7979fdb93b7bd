"""Which command takes which flag, and how wide the help is."""

import re

import pytest

from schema_migrator.cli import arguments, vendor_flags
from schema_migrator.config import option_commands
from schema_migrator.config.options import all_options, client_options, run_options
from schema_migrator.errors import SettingsError

COMMANDS = tuple(arguments.COMMANDS)
VISIBLE = [
    option for option in all_options() if not re.match("--(default|visibility|secondary-visibility)-sql-", option.flag)
]


def help_of(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what --help prints."""
    with pytest.raises(SystemExit):
        arguments.parser().parse_args([*words, "--help"])
    return capsys.readouterr().out


def test_every_option_is_read_by_a_command() -> None:
    """Each belongs to one command at least, and to none that there is not."""
    for option in all_options():
        assert option.commands, option.flag
        assert option.commands <= set(COMMANDS), option.flag
    known = {option.variable for option in (*run_options(), *client_options())}
    assert set(option_commands._READ_BY) <= known


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_what_the_command_reads(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No more and no less, and no line is wider than the terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(command, capsys=capsys)
    listed = set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE))
    own = {flag for flag in arguments._OWN.get(command, {}) if flag.startswith("--")}
    assert listed == own | {option.flag for option in VISIBLE if command in option.commands}
    assert max(map(len, text.splitlines())) <= 80


def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So does that of the program, and that of temporal-sql-tool."""
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, help_of(capsys=capsys).splitlines())) <= 80
    assert max(map(len, vendor_flags.parser().format_help().splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "--rewrite", "online"], "--rewrite is a flag of migrate and plan, not of status"),
        (["status", "--heartbeat=1"], "--heartbeat is a flag of migrate, not of status"),
        (["verify", "--check"], "--check is a flag of plan, status and namespaces, not of verify"),
        (
            ["releases", "--default-sql-host", "x"],
            (
                "--default-sql-host is a flag of migrate, plan, status, verify, rewrite, wait and create-database, not"
                " of releases"
            ),
        ),
        (["demo", "--nix"], "unknown flag --nix"),
        (["demo", "nix"], "an argument belongs to no flag"),
    ],
)
def test_a_flag_of_other_commands(words: list[str], message: str) -> None:
    """It is refused, and whose it is stands in the error."""
    with pytest.raises(SettingsError) as refused:
        arguments.parse(words)
    assert refused.value.message == message
    assert refused.value.hint == f"see schema-migrator {words[0]} --help"

"""The arguments of schema-migrator: each command takes the options that it reads, and a few of its own."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from schema_migrator import __version__
from schema_migrator.cli import process
from schema_migrator.cli.process import Parser
from schema_migrator.config.options import (
    REPEATED,
    Option,
    all_options,
    client_options,
    run_options,
    scope_of,
    sql_options,
)
from schema_migrator.exit_codes import CODES
from schema_migrator.releases.source import Store

_NARROW = 78
_EXAMPLES = """\
examples:
  schema-migrator releases
  schema-migrator migrate --temporal-version 1.32.2 --sql-host db \\
    --sql-user temporal --sql-password-file pw
  schema-migrator status --output json
  schema-migrator plan --store visibility --temporal-version 1.29.1
  schema-migrator demo

Every option is also a variable: --lock-timeout is SCHEMA_MIGRATOR_LOCK_TIMEOUT,
--sql-host is SQL_HOST, --visibility-sql-host is VISIBILITY_SQL_HOST. A flag
overrides a variable; a store's own name overrides the common one. A command
refuses a flag that it does not read, and ignores such a variable.

exit codes (1, 4 and from 129 on: a retry can help):
"""
COMMANDS = {
    "migrate": "migrate every store to its target",
    "plan": "show what migrate would do, without changing anything",
    "status": "show which version each store is at",
    "verify": "compare every schema with what its version should look like",
    "rewrite": "show what an online rewrite is doing, or ask something of it",
    "wait": "wait until the databases, their schemas or Temporal's frontend are ready",
    "namespaces": "create Temporal's namespaces if they are missing",
    "releases": "list the Temporal releases that can be installed",
    "create-database": "create the stores' databases if they are missing",
    "demo": "show it all on a private PostgreSQL",
}
"""Each command, and what it does."""
_AT_TARGET: dict[str, Any] = {"action": "store_true", "help": "exit 25 unless every store is at its target"}
_OWN: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "migrate": {
        "--abandon": {
            "action": "store_true",
            "help": "only remove what an unfinished online rewrite, or one with --keep-old, left behind",
        }
    },
    "plan": {"--check": _AT_TARGET},
    "status": {"--check": _AT_TARGET},
    "verify": {
        "--write-accepted": {
            "metavar": "FILE",
            "help": "write the current differences to a file of accepted ones; entries of --accepted that apply stay",
        },
        "--reason": {
            "metavar": "TEXT",
            "help": "with --write-accepted: the reason in new entries (unset: empty, for you to fill in)",
        },
    },
    "rewrite": {
        "action": {
            "metavar": "ACTION",
            "choices": ("status", "swap", "pause", "resume", "jobs"),
            "help": "status; swap: cut over as soon as the copy is ready; pause and resume it; jobs N: use at most"
            " N connections",
        },
        "number": {"metavar": "N", "nargs": "?", "type": int, "help": "with jobs: the number of connections"},
    },
    "namespaces": {
        "--update": {"action": "store_true", "help": "also change what differs"},
        "--check": {
            "action": "append",
            "metavar": "NAME",
            "help": "exit 41 if it is missing; repeat the option for several",
        },
    },
    "wait": {
        "--for": {
            "dest": "targets",
            "action": "append",
            "metavar": "WHAT",
            "required": True,
            "help": "database, schema or frontend; repeat the option, or separate them by commas",
        }
    },
    "create-database": {
        "--through": {"help": "maintenance database to connect to (unset: postgres, defaultdb or template1)"}
    },
}
"""The flags that are no settings, by command."""
_OF_ONE_STORE = "each also as --default-sql-..., --visibility-sql-... and --secondary-visibility-sql-... for one store"


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Return the flags by name. Raises SettingsError."""
    return process.parse(parser(), argv, takers)


def takers(flag: str) -> list[str]:
    """Return the commands that take a flag."""
    reading = {command for option in all_options() if option.flag == flag for command in option.commands}
    return [command for command in COMMANDS if command in reading or flag in _OWN.get(command, {})]


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        prog="schema-migrator",
        description="Migrates Temporal's PostgreSQL schemas: locked, transactional, resumable.",
        epilog=_EXAMPLES + _exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"schema-migrator {__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name, usage=f"schema-migrator {name} [options]", help=text, description=text, allow_abbrev=False
        )
        for flag, own in _OWN.get(name, {}).items():
            command.add_argument(flag, **own)
        _add_options(command, name)
    return made


def _exit_codes() -> str:
    """Return the exit codes as lines of the help."""
    words = ", ".join(f"{code.number} {code.name}" for code in CODES)
    return textwrap.fill(words, _NARROW, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _add_options(parser: argparse.ArgumentParser, command: str) -> None:
    _add_group(parser, command, "settings", run_options())
    _add_group(parser, command, "Temporal's frontend", client_options())
    _add_group(parser, command, "connection", sql_options(), _OF_ONE_STORE)
    for option in (option for store in Store for option in sql_options(scope_of(store))):
        if command in option.commands:
            _add_option(parser, option, hidden=True)


def _add_group(
    parser: argparse.ArgumentParser, command: str, title: str, options: Sequence[Option], description: str | None = None
) -> None:
    read = [option for option in options if command in option.commands]
    if not read:
        return
    group = parser.add_argument_group(title, description)
    for option in read:
        _add_option(group, option, hidden=False)


def _add_option(group: argparse._ActionsContainer, option: Option, *, hidden: bool) -> None:
    text = f"{option.meaning} [{option.variable}]".replace("%", "%%")
    extra: dict[str, Any] = {"action": "append"} if option.flag in REPEATED.values() else {}
    if option.field.annotation in (bool, bool | None):
        extra = {"nargs": "?", "const": "true"}
    group.add_argument(
        option.flag,
        dest=option.variable,
        metavar="VALUE",
        help=argparse.SUPPRESS if hidden else text,
        **extra,
    )

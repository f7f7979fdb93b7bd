"""The vendor's flags: go.temporal.io/server, tools/sql/main.go; Go takes each with one dash or two."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from schema_migrator import __version__
from schema_migrator.cli import process
from schema_migrator.cli.process import Parser
from schema_migrator.config.options import sql_options

if TYPE_CHECKING:
    from argparse import ArgumentParser

CONNECTION = {
    "SQL_HOST": ("endpoint", "ep"),
    "SQL_PORT": ("port", "p"),
    "SQL_USER": ("user", "u"),
    "SQL_PASSWORD": ("password", "pw"),
    "SQL_DATABASE": ("database", "db"),
    "SQL_PLUGIN": ("plugin", "pl"),
    "SQL_CONNECT_ATTRIBUTES": ("connect-attributes", "ca"),
    "SQL_TLS": ("tls",),
    "SQL_TLS_CERT_FILE": ("tls-cert-file",),
    "SQL_TLS_KEY_FILE": ("tls-key-file",),
    "SQL_TLS_CA_FILE": ("tls-ca-file",),
    "SQL_TLS_SERVER_NAME": ("tls-server-name",),
    "SQL_TLS_DISABLE_HOST_VERIFICATION": ("tls-disable-host-verification",),
}
_SWITCHES = frozenset({"SQL_TLS", "SQL_TLS_DISABLE_HOST_VERIFICATION", "quiet", "force", "overwrite", "unversioned"})
_FLAG = re.compile(r"--?(?P<name>[a-z][a-z-]*)(=(?P<value>.*))?", re.DOTALL)
_COMMANDS: dict[str, tuple[str, str, dict[str, tuple[tuple[str, ...], str]]]] = {
    "setup-schema": (
        "setup",
        "create the version tables at 0.0; leave existing ones alone",
        {
            "version": (("version", "v"), "0.0, or with --schema-name the version to migrate to"),
            "file": (("schema-file", "f"), "refused: it has no steps that could be resumed"),
            "name": (("schema-name",), "postgresql/v12/temporal or postgresql/v12/visibility"),
            "unversioned": (("disable-versioning", "d"), "refused: the version would be unknown"),
            "overwrite": (("overwrite", "o"), "refused unless the database is empty"),
        },
    ),
    "update-schema": (
        "update",
        "migrate one store, resuming whatever was interrupted",
        {
            "version": (("version", "v"), "the target version; unset: the folder's last"),
            "folder": (("schema-dir", "d"), "folder of the steps: .../1.32.2/postgresql/v12/temporal/versioned"),
            "name": (("schema-name", "s"), "postgresql/v12/temporal or postgresql/v12/visibility"),
        },
    ),
    "create-database": (
        "create",
        "create the database if it is missing",
        {"through": (("defaultdb",), "maintenance database to connect to (unset: postgres, defaultdb or template1)")},
    ),
    "drop-database": (
        "drop",
        "drop the database",
        {
            "through": (("defaultdb",), "maintenance database to connect to (unset: postgres, defaultdb or template1)"),
            "force": (("force", "f"), "without it nothing is dropped"),
        },
    ),
    "describe-schema": ("describe", "print only the version; exit 1 if none is recorded", {}),
}


def plain(argv: Sequence[str]) -> Iterator[str]:
    """Yield Go's flags as argparse takes them: one dash or two, `--tls=true`, values that begin with a dash."""
    words, known = iter(argv), _flags({**CONNECTION, "quiet": ("quiet", "q")})
    for word in words:
        found = _FLAG.fullmatch(word)
        name, switch = known.get(found["name"] if found else "", ("", False))
        if not found or not name:
            known = _flags({option: flags for option, (flags, _) in _options(word).items()}) or known
            yield word
        elif switch:
            yield from [f"--{name}"] if (found["value"] or "true").lower() in ("true", "t", "1") else []
        else:
            value = next(words, None) if found["value"] is None else found["value"]
            yield f"--{name}" if value is None else f"--{name}={value}"


def _flags(options: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, bool]]:
    """Return by every flag its long name, and whether it is a switch."""
    return {flag: (flags[0], option in _SWITCHES) for option, flags in options.items() for flag in flags}


def _options(command: str) -> dict[str, tuple[tuple[str, ...], str]]:
    return next((options for name, (alias, _, options) in _COMMANDS.items() if command in (name, alias)), {})


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Return the flags by name, and the command by its long name. Raises SettingsError."""
    found = process.parse(parser(), argv)
    names = {alias: name for name, (alias, *_) in _COMMANDS.items()}
    return {**found, "command": names.get(found["command"], found["command"])}


def parser() -> Parser:
    """Return the parser of the vendor's command line."""
    made = Parser(
        prog="temporal-sql-tool",
        usage="temporal-sql-tool [options] command [options of the command]",
        description="The vendor's command line on schema-migrator's engine: locked, idempotent, resumable.",
        epilog="Settings of schema-migrator (SCHEMA_MIGRATOR_WAIT_TIMEOUT and so on) work too.",
        allow_abbrev=False,
    )
    made.add_argument(
        "-v", "--version", action="version", version=f"temporal-sql-tool of schema-migrator {__version__}"
    )
    meanings = {option.variable: f"{option.meaning} [{option.variable}]" for option in sql_options()}
    for name, flags in CONNECTION.items():
        _add(made, name, flags, meanings[name])
    _add(made, "quiet", ("quiet", "q"), "exit with 0 even after a failure")
    commands = made.add_subparsers(dest="command", required=True, metavar="command")
    for name, (alias, meaning, options) in _COMMANDS.items():
        command = commands.add_parser(
            name, aliases=[alias], help=meaning, description=f"{meaning}.".capitalize(), allow_abbrev=False
        )
        for option, (flags, help_text) in options.items():
            _add(command, option, flags, help_text)
    commands.add_parser("help", help="show this help")
    return made


def _add(parser: ArgumentParser, name: str, flags: Sequence[str], meaning: str) -> None:
    switch = name in _SWITCHES
    extra: dict[str, Any] = {"action": "store_const", "const": "true"} if switch else {"metavar": "VALUE"}
    names = [("-" if len(flag) == 1 else "--") + flag for flag in flags]
    parser.add_argument(*names, dest=name, help=meaning.replace("%", "%%"), **extra)

"""The vendor's command line on our engine: `temporal-sql-tool`, locked, idempotent and resuming.

Flags, aliases and variables are those of go.temporal.io/server, tools/sql/main.go; Go takes each with one
dash or two. Where it differs on purpose: docs/running.md.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schema_migrator import __version__, logs, program
from schema_migrator.errors import NoVersion, SettingsError, UnknownState, WrongStore
from schema_migrator.options import sql_options
from schema_migrator.program import Parser
from schema_migrator.settings import Settings, read
from schema_migrator.source import UNVERSIONED, Store, carried, parse_version
from schema_migrator.workers import Interrupt

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from packaging.version import Version

_CONNECTION = {
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
        "make the version tables, at 0.0; leave them alone where they are",
        {
            "version": (("version", "v"), "0.0, or with --schema-name the version to migrate to"),
            "file": (("schema-file", "f"), "refused: it has no steps that could be resumed"),
            "name": (("schema-name",), "postgresql/v12/temporal or postgresql/v12/visibility"),
            "unversioned": (("disable-versioning", "d"), "refused: nobody could tell the version"),
            "overwrite": (("overwrite", "o"), "refused unless the database is empty"),
        },
    ),
    "update-schema": (
        "update",
        "migrate one store, whatever was begun before",
        {
            "version": (("version", "v"), "the version to reach; unset: the folder's last"),
            "folder": (("schema-dir", "d"), "folder of the steps: .../1.32.2/postgresql/v12/temporal/versioned"),
            "name": (("schema-name", "s"), "postgresql/v12/temporal or postgresql/v12/visibility"),
        },
    ),
    "create-database": (
        "create",
        "create the database where it is missing",
        {"through": (("defaultdb",), "database to connect to meanwhile (postgres)")},
    ),
    "drop-database": (
        "drop",
        "drop the database",
        {
            "through": (("defaultdb",), "database to connect to meanwhile (postgres)"),
            "force": (("force", "f"), "without it nothing is dropped"),
        },
    ),
    "describe-schema": ("describe", "print the version alone; exit 1 where none is recorded", {}),
}
_SCHEMA_NAMES = {f"postgresql/v12/{store.folder}": store for store in Store}


def main() -> None:
    """Run the command line and exit."""
    program.leave(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command; return its exit code, 0 with --quiet, as the vendor's tool does."""
    words = tuple(_plain(argv))
    code = program.run(words, _parse, _output)
    return 0 if "--quiet" in words else code


def _plain(argv: Sequence[str]) -> Iterator[str]:
    """Yield Go's flags as argparse takes them: one dash or two, `--tls=true`, values that begin with a dash."""
    words, known = iter(argv), _flags({**_CONNECTION, "quiet": ("quiet", "q")})
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


def _output(arguments: dict[str, Any]) -> str:
    interrupt = Interrupt()
    with interrupt.on_signals():
        logs.configure(os.environ.get("SCHEMA_MIGRATOR_LOG_LEVEL") or "info", terminal=sys.stderr.isatty())
        return _HANDLERS[arguments["command"]](arguments, interrupt)


def _setup(arguments: dict[str, Any], interrupt: Interrupt) -> str:
    version = _setup_version(arguments)
    if arguments["name"]:
        return _update(arguments, interrupt)
    if version != UNVERSIONED:
        raise SettingsError(
            f"setup-schema --version is {version}, expected 0.0: the tables of {version} would not be there",
            hint="give 0.0, then run update-schema",
        )
    from schema_migrator import commands  # noqa: PLC0415

    settings, made = _either(arguments, lambda settings: commands.set_up(settings, interrupt))
    database = settings.stores[0].database
    if not made and arguments["overwrite"]:
        raise UnknownState(
            f'database "{database}" is not empty, and --overwrite would drop its tables',
            hint="if that is what you want: temporal-sql-tool drop-database --force, then create-database",
        )
    return f'database "{database}": ' + ("set up, at 0.0" if made else "was set up before")


def _setup_version(arguments: dict[str, Any]) -> Version:
    for name, flag in (("file", "--schema-file"), ("unversioned", "--disable-versioning")):
        if arguments[name]:
            raise SettingsError(
                f"{flag} is not taken: what it makes could be neither resumed nor proven",
                hint="run setup-schema --version 0.0, then update-schema",
            )
    version = parse_version(arguments["version"] or "")
    if version is None:
        raise SettingsError(f'setup-schema --version is "{arguments["version"] or ""}", expected 0.0')
    return version


def _update(arguments: dict[str, Any], interrupt: Interrupt) -> str:
    from schema_migrator import commands, report  # noqa: PLC0415

    store, more = _files(arguments)
    settings = _settings(arguments, store, {**more, f"{store.upper()}_TARGET_VERSION": arguments["version"]})
    return report.migration_text(commands.migrate(settings, interrupt))


def _describe(arguments: dict[str, Any], interrupt: Interrupt) -> str:
    from schema_migrator import commands  # noqa: PLC0415

    settings, found = _either(arguments, lambda settings: commands.describe(settings, interrupt))
    (version,) = found.values()
    if version is None:
        raise NoVersion(f'database "{settings.stores[0].database}" has no version', hint="run setup-schema")
    return str(version)


def _create(arguments: dict[str, Any], interrupt: Interrupt) -> str:
    from schema_migrator import databases  # noqa: PLC0415

    settings = _settings(arguments, Store.DEFAULT, {})
    made = databases.create(settings, interrupt, through=arguments["through"] or "postgres")
    return f'database "{settings.stores[0].database}" ' + ("created" if all(made.values()) else "was already there")


def _drop(arguments: dict[str, Any], interrupt: Interrupt) -> str:
    from schema_migrator import databases  # noqa: PLC0415

    settings = _settings(arguments, Store.DEFAULT, {})
    database = settings.stores[0].database
    if not arguments["force"]:
        raise SettingsError(f'drop-database would drop "{database}" with all that is in it', hint="say so by --force")
    databases.drop(settings, interrupt, through=arguments["through"] or "postgres")
    return f'database "{database}" dropped'


_HANDLERS: dict[str, Callable[[dict[str, Any], Interrupt], str]] = {
    "setup-schema": _setup,
    "update-schema": _update,
    "create-database": _create,
    "drop-database": _drop,
    "describe-schema": _describe,
    "help": lambda _arguments, _interrupt: parser().format_help(),
}


def _either(arguments: dict[str, Any], work: Callable[[Settings], Any]) -> tuple[Settings, Any]:
    """Do what is the same for both stores, as the one whose tables are there; no flag says which it is."""
    settings = _settings(arguments, Store.DEFAULT, _some_release())
    try:
        return settings, work(settings)
    except WrongStore:
        settings = _settings(arguments, Store.VISIBILITY, _some_release())
        return settings, work(settings)


def _some_release() -> dict[str, str]:
    """Name the newest carried release where none is named: it knows the names of all tables."""
    if os.environ.get("TEMPORAL_VERSION"):
        return {}
    root = Path(os.environ.get("SCHEMA_MIGRATOR_SOURCES") or "releases")
    return {"TEMPORAL_VERSION": carried(root)[-1]}


def _settings(arguments: dict[str, Any], store: Store, more: dict[str, str]) -> Settings:
    given = {name: arguments[name] for name in _CONNECTION}
    database = given["SQL_DATABASE"] or os.environ.get("SQL_DATABASE") or "temporal"
    return read({**given, "SQL_DATABASE": database, "SCHEMA_MIGRATOR_STORES": str(store), **more})


def _files(arguments: dict[str, Any]) -> tuple[Store, dict[str, str]]:
    """Return the store, and the settings that name the files: a folder tells both."""
    folder, name = arguments.get("folder"), arguments["name"]
    if bool(folder) == bool(name):
        raise SettingsError("expected one of --schema-dir and --schema-name", hint="name the folder of the steps")
    if name:
        if name not in _SCHEMA_NAMES:
            raise SettingsError(f'--schema-name is "{name}", expected {" or ".join(_SCHEMA_NAMES)}')
        return _SCHEMA_NAMES[name], {}
    return _place(Path(str(folder)))


def _place(folder: Path) -> tuple[Store, dict[str, str]]:
    *root, release, kind, number, store, last = ("", "", "", "", "", *folder.resolve().parts)
    found = _SCHEMA_NAMES.get(f"{kind}/{number}/{store}")
    if found is None or last != "versioned" or parse_version(release) is None:
        raise SettingsError(
            f'--schema-dir "{folder}" does not tell release and store',
            hint="give a folder such as 1.32.2/postgresql/v12/temporal/versioned, or a link to it",
        )
    return found, {"SCHEMA_MIGRATOR_SOURCES": str(Path(*root)), "TEMPORAL_VERSION": release}


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    found = program.parse(parser(), argv)
    names = {alias: name for name, (alias, *_) in _COMMANDS.items()}
    return {**found, "command": names.get(found["command"], found["command"])}


def parser() -> Parser:
    """Return the parser of the vendor's command line."""
    made = Parser(
        prog="temporal-sql-tool",
        usage="temporal-sql-tool [options] command [options of the command]",
        description="The vendor's command line on schema-migrator's engine: locked, idempotent, resuming.",
        epilog="Settings of schema-migrator (SCHEMA_MIGRATOR_WAIT_TIMEOUT and so on) work too.",
        allow_abbrev=False,
    )
    made.add_argument(
        "-v", "--version", action="version", version=f"temporal-sql-tool of schema-migrator {__version__}"
    )
    meanings = {option.variable: f"{option.meaning} [{option.variable}]" for option in sql_options()}
    for name, flags in _CONNECTION.items():
        _add(made, name, flags, meanings[name])
    _add(made, "quiet", ("quiet", "q"), "exit with 0 after a failure too")
    commands = made.add_subparsers(dest="command", required=True, metavar="command")
    for name, (alias, meaning, options) in _COMMANDS.items():
        command = commands.add_parser(
            name, aliases=[alias], help=meaning, description=f"{meaning}.".capitalize(), allow_abbrev=False
        )
        for option, (flags, help_text) in options.items():
            _add(command, option, flags, help_text)
    commands.add_parser("help", help="show this")
    return made


def _add(parser: ArgumentParser, name: str, flags: Sequence[str], meaning: str) -> None:
    switch = name in _SWITCHES
    extra: dict[str, Any] = {"action": "store_const", "const": "true"} if switch else {"metavar": "VALUE"}
    names = [("-" if len(flag) == 1 else "--") + flag for flag in flags]
    parser.add_argument(*names, dest=name, help=meaning.replace("%", "%%"), **extra)


if __name__ == "__main__":
    main()

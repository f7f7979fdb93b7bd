"""The vendor's command line on our engine: `temporal-sql-tool`, locked, idempotent and resuming.

Where it differs on purpose: docs/running.md.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schema_migrator import events
from schema_migrator.cli import process, start_event
from schema_migrator.cli.vendor_flags import CONNECTION, parse, parser, plain
from schema_migrator.concurrency import Interrupt
from schema_migrator.config.options import flag_of, scope_of
from schema_migrator.config.settings import Settings, read
from schema_migrator.config.values import folders
from schema_migrator.errors import NoVersion, SettingsError, UnknownState, WrongStore
from schema_migrator.releases.library import Library
from schema_migrator.releases.source import UNVERSIONED, USUAL_STORES, Store, parse_version

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.reports.layout import Report

_MOST_LINKS = 40  # as the kernel allows
_SCHEMA_NAMES = {f"postgresql/v12/{store.folder}": store for store in USUAL_STORES}


def main() -> None:
    """Run the command line and exit."""
    process.open_streams()
    process.leave(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command; return its exit code, 0 with --quiet, as the vendor's tool does."""
    words = tuple(plain(argv))
    code = process.run(words, parse, _output)
    return 0 if "--quiet" in words else code


def _output(arguments: dict[str, Any]) -> str | Report:
    interrupt = Interrupt()
    with interrupt.on_signals():
        level = os.environ.get("SCHEMA_MIGRATOR_LOG_LEVEL")  # another one is refused with the other settings
        events.configure(level if level in events.LEVELS else "info", terminal=sys.stderr.isatty())
        return _HANDLERS[arguments["command"]](arguments, interrupt)


def _setup(arguments: dict[str, Any], interrupt: Interrupt) -> str | Report:
    from schema_migrator.commands import migrate  # noqa: PLC0415

    version = _setup_version(arguments)
    if arguments["name"]:
        return _update(arguments, interrupt)
    if version != UNVERSIONED:
        raise SettingsError(
            f"setup-schema --version is {version}, expected 0.0: the tables of {version} would not be there",
            hint="use 0.0, then run update-schema",
        )

    settings, made = _either(arguments, lambda settings: migrate.set_up(settings, interrupt))
    database = settings.stores[0].database
    if not made and arguments["overwrite"]:
        raise UnknownState(
            f'database "{database}" is not empty, and --overwrite would drop its tables',
            hint="if that is intended: temporal-sql-tool drop-database --force, then create-database",
        )
    return f'database "{database}": ' + ("set up, at 0.0" if made else "already set up")


def _setup_version(arguments: dict[str, Any]) -> Version:
    for name, flag in (("file", "--schema-file"), ("unversioned", "--disable-versioning")):
        if arguments[name]:
            raise SettingsError(
                f"{flag} is not supported: its result could be neither resumed nor verified",
                hint="run setup-schema --version 0.0, then update-schema",
            )
    version = parse_version(arguments["version"] or "")
    if version is None:
        raise SettingsError(f'setup-schema --version is "{arguments["version"] or ""}", expected 0.0')
    return version


def _update(arguments: dict[str, Any], interrupt: Interrupt) -> str | Report:
    from schema_migrator.commands import migrate  # noqa: PLC0415
    from schema_migrator.reports import report  # noqa: PLC0415

    store, more = _files(arguments)
    # The vendor's command line names the version and no server: whoever gives one means it.
    asked = {f"{store.prefix}_TARGET_VERSION": arguments["version"], "SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "true"}
    settings = _announced(arguments, store, {**more, **asked})
    return report.migration_text(migrate.migrate(settings, interrupt))


def _describe(arguments: dict[str, Any], interrupt: Interrupt) -> str:
    from schema_migrator.commands import status  # noqa: PLC0415

    settings, found = _either(arguments, lambda settings: status.describe(settings, interrupt))
    (version,) = found.values()
    if version is None:
        raise NoVersion(f'database "{settings.stores[0].database}" has no version', hint="run setup-schema")
    return str(version)


def _create(arguments: dict[str, Any], interrupt: Interrupt) -> str:
    from schema_migrator.commands import databases  # noqa: PLC0415

    settings = _announced(arguments, Store.DEFAULT, {})
    made = databases.create(settings, interrupt, through=arguments["through"])
    return f'database "{settings.stores[0].database}" ' + ("created" if all(made.values()) else "already existed")


def _drop(arguments: dict[str, Any], interrupt: Interrupt) -> str:
    from schema_migrator.commands import databases  # noqa: PLC0415

    settings = _announced(arguments, Store.DEFAULT, {})
    database = settings.stores[0].database
    if not arguments["force"]:
        raise SettingsError(
            f'drop-database would drop "{database}" with all that is in it', hint="confirm with --force"
        )
    databases.drop(settings, interrupt, through=arguments["through"])
    return f'database "{database}" dropped'


_HANDLERS: dict[str, Callable[[dict[str, Any], Interrupt], str | Report]] = {
    "setup-schema": _setup,
    "update-schema": _update,
    "create-database": _create,
    "drop-database": _drop,
    "describe-schema": _describe,
    "help": lambda _arguments, _interrupt: parser().format_help(),
}


def _either(arguments: dict[str, Any], work: Callable[[Settings], Any]) -> tuple[Settings, Any]:
    """Do what is the same for every store, as the one whose tables are there; no flag says which it is."""
    settings = _announced(arguments, Store.DEFAULT, _some_release())
    try:
        return settings, work(settings)
    except WrongStore:
        settings = _settings(arguments, Store.VISIBILITY, _some_release())
        return settings, work(settings)


def _some_release() -> dict[str, str]:
    """Name the newest available release where none is named: it knows the names of all tables."""
    if os.environ.get("TEMPORAL_VERSION"):
        return {}
    versions = Library(folders=_sources() or (Path("releases"),)).versions()
    return {"TEMPORAL_VERSION": versions[-1]} if versions else {}


def _announced(arguments: dict[str, Any], store: Store, more: dict[str, str]) -> Settings:
    """Read the settings of one store, and log what is to be done."""
    settings = _settings(arguments, store, more)
    start_event.announce(settings, arguments["command"])
    return settings


def _settings(arguments: dict[str, Any], store: Store, more: dict[str, str]) -> Settings:
    """Read the settings of one store; a flag of this command line beats every variable."""
    names = {scope_of(store) + name.removeprefix("SQL_"): name for name in CONNECTION}
    given = {narrow: arguments[name] for narrow, name in names.items()}
    database = arguments["SQL_DATABASE"] or os.environ.get("SQL_DATABASE") or "temporal"
    given |= {scope_of(store) + "DATABASE": database, "SCHEMA_MIGRATOR_STORES": str(store)}
    try:
        return read({**given, **more})
    except SettingsError as error:
        for narrow, name in names.items():
            error.message = re.sub(rf"{flag_of(narrow)}\b(?!-)", f"--{CONNECTION[name][0]}", error.message)
        raise


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
    """Return what a folder of steps names. A version in its path is the release's, otherwise TEMPORAL_VERSION is."""
    places = [place for place in map(_parts, _links(folder.absolute())) if place is not None]
    named = next(((store, root) for store, root in places if parse_version(root.name)), None)
    if named is not None:
        store, root = named
        return store, {"SCHEMA_MIGRATOR_SOURCES": str(root.parent), "TEMPORAL_VERSION": root.name}
    if places and os.environ.get("TEMPORAL_VERSION"):
        store, root = places[0]
        # The other folders tell whether the version is right.
        return store, {"SCHEMA_MIGRATOR_SOURCES": os.pathsep.join(map(str, (root, *_sources())))}
    raise SettingsError(
        f'--schema-dir "{folder}" does not tell release and store',
        hint="name a folder such as 1.32.2/postgresql/v12/temporal/versioned, or a link to it, or set TEMPORAL_VERSION",
    )


def _parts(folder: Path) -> tuple[Store, Path] | None:
    """Return the store and the release's folder if the path of a folder of steps ends as the vendor's does."""
    *root, kind, number, store, last = ("", "", "", "", *folder.parts)
    found = _SCHEMA_NAMES.get(f"{kind}/{number}/{store}")
    return (found, Path(*root)) if found is not None and last == "versioned" else None


def _links(path: Path) -> Iterator[Path]:
    """Yield a path, and what it leads to as one link after the other is followed."""
    for _ in range(_MOST_LINKS):
        yield path
        link = next((parent for parent in (*reversed(path.parents), path) if parent.is_symlink()), None)
        if link is None:
            return
        path = link.parent / link.readlink() / path.relative_to(link)


def _sources() -> tuple[Path, ...]:
    return folders(os.environ.get("SCHEMA_MIGRATOR_SOURCES") or "")

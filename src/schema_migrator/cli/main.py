"""The command line: flags from the settings' fields, and a handler a command."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from schema_migrator import __version__, events
from schema_migrator.cli import process, start_event
from schema_migrator.cli.process import Parser, say
from schema_migrator.concurrency import Interrupt
from schema_migrator.config.options import REPEATED, Option, client_options, run_options, sql_options
from schema_migrator.config.settings import Settings, demo_environment, read, read_client
from schema_migrator.errors import NotAsRehearsed, NotAtTarget, PreflightFailed
from schema_migrator.exit_codes import CODES

_EXAMPLES = """\
examples:
  schema-migrator releases
  schema-migrator migrate --temporal-version 1.32.2 --sql-host db --sql-user temporal --sql-password-file pw
  schema-migrator status --output json
  schema-migrator plan --store visibility --temporal-version 1.29.1
  schema-migrator demo

Every option is also a variable: --lock-timeout is SCHEMA_MIGRATOR_LOCK_TIMEOUT, --sql-host is SQL_HOST,
--visibility-sql-host is VISIBILITY_SQL_HOST. A flag overrides a variable; a store's own name overrides the common one.

exit codes (1, 4 and from 129 on: a retry can help):
"""
_COMMANDS = {
    "migrate": "migrate both stores to their targets",
    "plan": "show what migrate would do, without changing anything",
    "status": "show which version each store is at",
    "verify": "compare both schemas with what their versions should look like",
    "wait": "wait until the databases, their schemas or Temporal's frontend are ready",
    "namespaces": "create Temporal's namespaces if they are missing",
    "releases": "list the Temporal releases that can be installed",
    "create-database": "create the stores' databases if they are missing",
    "demo": "show it all on a private PostgreSQL",
}
_ABANDON = "only remove what an unfinished online rewrite, or one with --keep-old, left behind"


def main() -> None:
    """Run the command line and exit."""
    process.open_streams()
    process.leave(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    return process.run(argv, _parse, _output)


def _output(arguments: dict[str, Any]) -> str:
    interrupt = Interrupt()
    with interrupt.on_signals():
        flags = {name: value for name, value in arguments.items() if name.isupper()}
        command = arguments["command"]
        settings = read(flags, demo_environment() if command == "demo" else None)
        events.configure(settings.run.log_level, terminal=settings.run.output == "text" and sys.stderr.isatty())
        start_event.announce(settings, command)
        return _HANDLERS[command](settings, interrupt, arguments)


def _migrate(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str:
    from schema_migrator.commands import abandon, migrate  # noqa: PLC0415
    from schema_migrator.reports import report  # noqa: PLC0415

    if arguments["abandon"]:
        removed = abandon.abandon(settings, interrupt)
        as_json = settings.run.output == "json"
        return report.to_json(map(report.removal_json, removed)) if as_json else report.removals_text(removed)
    done = migrate.migrate(settings, interrupt)
    if settings.run.output == "json":
        return report.to_json(map(report.migration_json, done))
    return report.migration_text(done)


def _plan(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str:
    from schema_migrator.commands import preview  # noqa: PLC0415
    from schema_migrator.reports import plan_report, report  # noqa: PLC0415

    seen = preview.show_plan(settings, interrupt)
    as_json = settings.run.output == "json"
    text = (
        report.to_json(map(plan_report.plan_json, seen)) if as_json else "\n\n".join(map(plan_report.plan_text, seen))
    )
    return _checked(text, [one.plan.store for one in seen if not one.plan.empty], arguments)


def _status(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str:
    from schema_migrator.commands import status  # noqa: PLC0415
    from schema_migrator.reports import report, status_report  # noqa: PLC0415

    found = status.status(settings, interrupt)
    as_json = settings.run.output == "json"
    text = report.to_json(map(status_report.status_json, found)) if as_json else status_report.status_text(found)
    too_old = [status for status in found if status.too_old_for_servers]
    if too_old and arguments["check"]:
        say(text)
        lacking = " and ".join(f"the {status.store} store needs {status.needed}" for status in too_old)
        raise NotAtTarget(
            f"{lacking} for servers of release {too_old[0].release}, which do not start at the configured target",
            hint="unset the target version, or raise it, and run schema-migrator migrate",
        )
    return _checked(text, [one.store for one in found if not one.up_to_date], arguments)


def _verify(settings: Settings, interrupt: Interrupt, _arguments: dict[str, Any]) -> str:
    from schema_migrator.catalog import owners  # noqa: PLC0415
    from schema_migrator.commands import verify  # noqa: PLC0415
    from schema_migrator.reports import report  # noqa: PLC0415

    found = verify.verify(settings, interrupt)
    as_json = settings.run.output == "json"
    text = report.to_json(map(report.verify_json, found)) if as_json else "\n\n".join(map(report.verify_text, found))
    wrong = [one for one in found if not one.equal]
    if wrong:
        say(text)
        names = " and ".join(f"the {one.store} store" for one in wrong)
        raise NotAsRehearsed(
            f"{names} {'does' if len(wrong) == 1 else 'do'} not match",
            hint="read the SQL shown before you run it; where it says look first, the decision is yours",
        )
    unreadable = [one for one in found if one.whose.unreadable]
    if unreadable:
        say(text)
        whose = unreadable[0].whose
        raise PreflightFailed(
            f'the role "{whose.role}" may not read {", ".join(whose.unreadable)} of the {unreadable[0].store} store',
            hint=" ".join(owners.grants(whose.schema, [(whose.role, "SELECT", whose.unreadable)])),
            store=unreadable[0].store,
        )
    return text


def _checked(text: str, behind: list[Any], arguments: dict[str, Any]) -> str:
    """Return the text, or with --check print it and raise NotAtTarget if a store is behind."""
    if behind and arguments["check"]:
        say(text)
        names = f"the {behind[0]} store is not at its target" if len(behind) == 1 else "no store is at its target"
        raise NotAtTarget(names, hint="run schema-migrator migrate")
    return text


def _releases(settings: Settings, _interrupt: Interrupt, _arguments: dict[str, Any]) -> str:
    from schema_migrator.commands import releases  # noqa: PLC0415
    from schema_migrator.reports import report  # noqa: PLC0415

    found = releases.releases(settings)
    return report.releases_json(found) if settings.run.output == "json" else report.releases_text(found)


def _create_database(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str:
    from schema_migrator.commands import databases  # noqa: PLC0415
    from schema_migrator.reports import report  # noqa: PLC0415

    made = databases.create(settings, interrupt, through=arguments["through"])
    if settings.run.output == "json":
        return report.to_json(
            {"store": str(store), "database": settings.store(store).database, "created": new}
            for store, new in made.items()
        )
    lines = (
        f'{store} store: database "{settings.store(store).database}" ' + ("created" if new else "already existed")
        for store, new in made.items()
    )
    return "\n".join(lines)


def _wait(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str:
    from schema_migrator.commands import wait  # noqa: PLC0415
    from schema_migrator.reports import bootstrap_report  # noqa: PLC0415

    ready = wait.wait(settings, read_client(arguments), interrupt, wait.wait_targets(arguments["targets"]))
    return bootstrap_report.ready_json(ready) if settings.run.output == "json" else bootstrap_report.ready_text(ready)


def _namespaces(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str:
    from schema_migrator.reports import bootstrap_report  # noqa: PLC0415
    from schema_migrator.temporal import namespaces  # noqa: PLC0415

    client = read_client(arguments)
    checked = tuple(arguments["check"] or ())
    done = namespaces.ensure(settings, client, interrupt, update=arguments["update"], check=checked)
    if settings.run.output == "json":
        return bootstrap_report.namespaces_json(done, checked)
    return bootstrap_report.namespaces_text(done, checked)


def _demo(settings: Settings, interrupt: Interrupt, _arguments: dict[str, Any]) -> str:
    from schema_migrator.demo import scenario  # noqa: PLC0415

    events.configure("error", terminal=True)
    for paragraph in scenario.show(settings.run.sources, interrupt):
        say(paragraph + "\n")
    return "Done."


_HANDLERS: dict[str, Callable[[Settings, Interrupt, dict[str, Any]], str]] = {
    "migrate": _migrate,
    "plan": _plan,
    "status": _status,
    "verify": _verify,
    "wait": _wait,
    "namespaces": _namespaces,
    "releases": _releases,
    "create-database": _create_database,
    "demo": _demo,
}


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    return process.parse(parser(), argv)


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
    for name, text in _COMMANDS.items():
        command = commands.add_parser(
            name, usage=f"schema-migrator {name} [options]", help=text, description=text, allow_abbrev=False
        )
        _add_options(command, name)
        if name == "migrate":
            command.add_argument("--abandon", action="store_true", help=_ABANDON)
        if name in ("plan", "status"):
            command.add_argument("--check", action="store_true", help="exit 25 unless every store is at its target")
        if name == "namespaces":
            command.add_argument("--update", action="store_true", help="also change what differs")
            command.add_argument(
                "--check",
                action="append",
                metavar="NAME",
                help="exit 41 if it is missing; repeat the option for several",
            )
        if name == "wait":
            command.add_argument(
                "--for",
                dest="targets",
                action="append",
                metavar="WHAT",
                required=True,
                help="database, schema or frontend; repeat the option, or separate them by commas",
            )
        if name == "create-database":
            command.add_argument(
                "--through", help="maintenance database to connect to (unset: postgres, defaultdb or template1)"
            )
    return made


def _exit_codes() -> str:
    """Return the exit codes as lines of the help."""
    words = ", ".join(f"{code.number} {code.name}" for code in CODES)
    return textwrap.fill(words, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _add_options(parser: argparse.ArgumentParser, command: str) -> None:
    common = parser.add_argument_group("settings")
    for option in run_options():
        _add_option(common, option, hidden=False)
    if command in ("wait", "namespaces"):
        client = parser.add_argument_group("Temporal's frontend")
        for option in client_options():
            _add_option(client, option, hidden=False)
    if command == "namespaces":
        return
    title = "connection (each also as --default-sql-... and --visibility-sql-... for one store)"
    connection = parser.add_argument_group(title)
    for prefix in ("SQL_", "DEFAULT_SQL_", "VISIBILITY_SQL_"):
        for option in sql_options(prefix):
            _add_option(connection, option, hidden=prefix != "SQL_")


def _add_option(group: argparse._ArgumentGroup, option: Option, *, hidden: bool) -> None:
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

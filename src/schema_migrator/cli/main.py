"""The commands of schema-migrator: a handler for each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schema_migrator import events
from schema_migrator.cli import arguments, process, start_event
from schema_migrator.cli.process import say
from schema_migrator.concurrency import Interrupt
from schema_migrator.config import option_commands, selection
from schema_migrator.config.fields import MOST_JOBS
from schema_migrator.config.settings import Settings, demo_environment, read, read_client
from schema_migrator.errors import NotAsRehearsed, NotAtTarget, PreflightFailed, SettingsError
from schema_migrator.reports.layout import Report, joined

if TYPE_CHECKING:
    from schema_migrator.commands.accept import Refused
    from schema_migrator.config.sql_fields import SqlSettings
    from schema_migrator.diagnosis.verdict import Verdict


def main() -> None:
    """Run the command line and exit."""
    process.open_streams()
    process.leave(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    return process.run(argv, arguments.parse, _output)


def _output(arguments: dict[str, Any]) -> str | Report:
    interrupt = Interrupt()
    with interrupt.on_signals():
        flags = {name: value for name, value in arguments.items() if name.isupper()}
        command = arguments["command"]
        environ = demo_environment() if command == "demo" else None
        settings = read(flags, environ, on_stores=command in option_commands.ON_STORES)
        events.configure(settings.run.log_level, terminal=settings.run.output == "text" and sys.stderr.isatty())
        start_event.announce(settings, command)
        return _HANDLERS[command](settings, interrupt, arguments)


def _migrate(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str | Report:
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


def _plan(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.commands import preview  # noqa: PLC0415
    from schema_migrator.reports import plan_report, report  # noqa: PLC0415

    seen = preview.show_plan(settings, interrupt, _running(arguments, interrupt), _embedded)
    as_json = settings.run.output == "json"
    text = report.to_json(map(plan_report.plan_json, seen)) if as_json else joined(map(plan_report.plan_text, seen))
    return _checked(text, [shown.plan.store for shown in seen if not shown.plan.empty], arguments)


def _embedded() -> AbstractContextManager[SqlSettings]:
    """Start the embedded PostgreSQL for rehearsals."""
    from schema_migrator.demo import rehearsal_server  # noqa: PLC0415

    return rehearsal_server.running()


def _running(arguments: dict[str, Any], interrupt: Interrupt) -> str | None:
    """Return the version that the frontend reports, if its address is given."""
    if not (arguments.get("TEMPORAL_ADDRESS") or os.environ.get("TEMPORAL_ADDRESS")):
        return None
    from schema_migrator.temporal import server_version  # noqa: PLC0415

    return server_version.ask(read_client(arguments), interrupt)


def _status(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.commands import status  # noqa: PLC0415
    from schema_migrator.reports import report, status_report  # noqa: PLC0415

    found = status.status(settings, interrupt, _running(arguments, interrupt), _embedded)
    as_json = settings.run.output == "json"
    text = report.to_json(map(status_report.status_json, found)) if as_json else status_report.status_text(found)
    too_old = [store for store in found if store.too_old_for_servers]
    if too_old and arguments["check"]:
        say(text)
        lacking = selection.listed([f"the {store.store} store needs {store.needed}" for store in too_old])
        raise NotAtTarget(
            f"{lacking} for servers of release {too_old[0].release}, which do not start at the configured target",
            hint="unset the target version, or raise it, and run schema-migrator migrate",
        )
    return _checked(text, [store.store for store in found if not store.up_to_date], arguments)


def _rewrite(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.commands import rewrite  # noqa: PLC0415
    from schema_migrator.reports import report, rewrite_report  # noqa: PLC0415

    action, number = arguments["action"], arguments["number"]
    if (action == "jobs") != (number is not None) or (number is not None and not 1 <= number <= MOST_JOBS):
        raise SettingsError(
            f"jobs takes a number from 1 to {MOST_JOBS}, the other actions take none",
            hint="an example: schema-migrator rewrite jobs 2",
        )
    request = {"jobs": number} if action == "jobs" else rewrite.REQUESTS.get(action)
    found = rewrite.rewrites(settings, interrupt, request)
    if settings.run.output == "json":
        return report.to_json(map(rewrite_report.rewrites_json, found))
    return rewrite_report.rewrites_text(found)


def _verify(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.commands import accept, verify  # noqa: PLC0415
    from schema_migrator.reports import report  # noqa: PLC0415

    file = Path(arguments["write_accepted"]) if arguments["write_accepted"] else None
    if file is None and arguments["reason"]:
        raise SettingsError(f"--reason is given without {accept.FLAG}", hint="an entry in the file has its own reason")
    if file is not None:
        accept.check(file, arguments["reason"] or "", settings)
    found = verify.verify(settings, interrupt, _embedded)
    as_json = settings.run.output == "json"
    text = report.to_json(map(report.verify_json, found)) if as_json else joined(map(report.verify_text, found))
    if file is not None:
        refused = accept.write(file, arguments["reason"] or "", settings, found)
        _refuse_accepted(text, refused)
    else:
        _refuse_different(text, found)
    _refuse_unreadable(text, found)
    return text


def _refuse_accepted(text: str | Report, refused: Sequence[Refused]) -> None:
    """Print the text and raise NotAsRehearsed if no entry can accept a difference."""
    if refused:
        say(text)
        names = ", ".join(f"{each.change.key} of the {each.store} store" for each in refused)
        raise NotAsRehearsed(
            f"no entry was written for what cannot be accepted: {names}",
            hint="repair it with the SQL shown; migrate rebuilds an invalid index",
        )


def _refuse_different(text: str | Report, found: Sequence[Verdict]) -> None:
    """Print the text and raise NotAsRehearsed if a store does not match."""
    wrong = [verdict for verdict in found if not verdict.equal]
    if wrong:
        say(text)
        names = selection.named(verdict.store for verdict in wrong)
        raise NotAsRehearsed(
            f"{names} {'does' if len(wrong) == 1 else 'do'} not match",
            hint="read the SQL shown before you run it; where it says look first, the decision is yours",
        )


def _refuse_unreadable(text: str | Report, found: Sequence[Verdict]) -> None:
    """Print the text and raise PreflightFailed if the role may not read a table of a store."""
    from schema_migrator.catalog import owners  # noqa: PLC0415

    unreadable = [verdict for verdict in found if verdict.whose.unreadable]
    if unreadable:
        say(text)
        whose = unreadable[0].whose
        raise PreflightFailed(
            f'the role "{whose.role}" may not read {", ".join(whose.unreadable)} of the {unreadable[0].store} store',
            hint=" ".join(owners.grants(whose.schema, [(whose.role, "SELECT", whose.unreadable)])),
            store=unreadable[0].store,
        )


def _checked(text: str | Report, behind: list[Any], arguments: dict[str, Any]) -> str | Report:
    """Return the text, or with --check print it and raise NotAtTarget if a store is behind."""
    if behind and arguments["check"]:
        say(text)
        are = "is not at its target" if len(behind) == 1 else "are not at their targets"
        raise NotAtTarget(f"{selection.named(behind)} {are}", hint="run schema-migrator migrate")
    return text


def _releases(settings: Settings, _interrupt: Interrupt, _arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.commands import releases  # noqa: PLC0415
    from schema_migrator.reports import report  # noqa: PLC0415

    found = releases.releases(settings)
    return report.releases_json(found) if settings.run.output == "json" else report.releases_text(found)


def _create_database(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.commands import databases  # noqa: PLC0415
    from schema_migrator.reports import report  # noqa: PLC0415

    made = databases.create(settings, interrupt, through=arguments["through"])
    if settings.run.output == "json":
        return report.to_json(
            {"store": str(store), "database": settings.store(store).database, "created": new}
            for store, new in made.items()
        )
    return tuple(
        f'{store} store: database "{settings.store(store).database}" ' + ("created" if new else "already existed")
        for store, new in made.items()
    )


def _wait(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.commands import wait  # noqa: PLC0415
    from schema_migrator.reports import bootstrap_report  # noqa: PLC0415

    ready = wait.wait(settings, read_client(arguments), interrupt, wait.wait_targets(arguments["targets"]))
    return bootstrap_report.ready_json(ready) if settings.run.output == "json" else bootstrap_report.ready_text(ready)


def _namespaces(settings: Settings, interrupt: Interrupt, arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.reports import bootstrap_report  # noqa: PLC0415
    from schema_migrator.temporal import namespaces  # noqa: PLC0415

    client = read_client(arguments)
    checked = tuple(arguments["check"] or ())
    done = namespaces.ensure(settings, client, interrupt, update=arguments["update"], check=checked)
    if settings.run.output == "json":
        return bootstrap_report.namespaces_json(done, checked)
    return bootstrap_report.namespaces_text(done, checked)


def _demo(settings: Settings, interrupt: Interrupt, _arguments: dict[str, Any]) -> str | Report:
    from schema_migrator.demo import scenario  # noqa: PLC0415

    events.configure("error", terminal=True)
    for paragraph in scenario.show(settings.run.sources, interrupt):
        say(paragraph)
        say("")
    return "Done."


_HANDLERS: dict[str, Callable[[Settings, Interrupt, dict[str, Any]], str | Report]] = {
    "migrate": _migrate,
    "plan": _plan,
    "status": _status,
    "verify": _verify,
    "rewrite": _rewrite,
    "wait": _wait,
    "namespaces": _namespaces,
    "releases": _releases,
    "create-database": _create_database,
    "demo": _demo,
}

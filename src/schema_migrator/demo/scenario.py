"""The demo's scenario: install, run again, upgrade, and repair what a killed vendor's tool left behind."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from schema_migrator.commands import databases, migrate, status, verify
from schema_migrator.config import settings
from schema_migrator.config.fields import PREFIX
from schema_migrator.demo.embedded_postgres import private_server
from schema_migrator.errors import SettingsError
from schema_migrator.postgres import connection, transactions
from schema_migrator.releases.source import UNVERSIONED, Store
from schema_migrator.reports import report, status_report
from schema_migrator.reports.layout import Toned
from schema_migrator.runs import version_table
from schema_migrator.terminal import Tone

if TYPE_CHECKING:
    from pathlib import Path

    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import Settings
    from schema_migrator.demo.embedded_postgres import Server
    from schema_migrator.releases.source import Step
    from schema_migrator.reports.layout import Report

_CALLERS = re.compile(r"PG[A-Z]|((DEFAULT_|(SECONDARY_)?VISIBILITY_)?SQL_|SCHEMA_MIGRATOR_)", re.IGNORECASE)
_BEFORE, _AFTER = "1.29.1", "1.32.2"
_CUTS = {Store.DEFAULT: ("1.0", 21), Store.VISIBILITY: ("1.2", 37)}
"""Where the demo cuts the vendor's tool off: the step, and the number of its statements that have run."""


def show(sources: tuple[Path, ...], interrupt: Interrupt) -> Iterator[Report]:
    """Yield the demo's output as it happens, a paragraph at a time.

    Raises SettingsError if the embedded PostgreSQL is not installed.
    """
    try:
        yield ("Starting a private PostgreSQL, which takes some seconds.",)
        with _own_environment(), private_server() as server:
            yield (_heading(f"A private PostgreSQL listens on {server.host}:{server.port}; it goes away at the end."),)
            yield from _main_job(server, sources, interrupt)
            yield from _incident(server, sources, interrupt)
    except ImportError as error:
        raise SettingsError(
            "the demo's PostgreSQL is not installed", hint="pip install 'temporal-schema-migrator[demo]'"
        ) from error


@contextmanager
def _own_environment() -> Iterator[None]:
    """Hide the caller's connection settings, libpq's included: they must not affect the private server."""
    names = [name for name in os.environ if _CALLERS.match(name)]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _main_job(server: Server, sources: tuple[Path, ...], interrupt: Interrupt) -> Iterator[Report]:
    before, after = (_settings(server, sources, release, "temporal") for release in (_BEFORE, _AFTER))
    databases.create(before, interrupt, through="postgres")
    yield (_heading("1. A fresh install, one transaction per store:"), *_migrate(before, interrupt))
    yield _status(before, interrupt)
    yield (_heading("2. The same again, as a hook does at every sync:"), *_migrate(before, interrupt))
    yield (_heading("3. The upgrade, one transaction per step, proven by rehearsal:"), *_migrate(after, interrupt))
    yield _status(after, interrupt)


def _incident(server: Server, sources: tuple[Path, ...], interrupt: Interrupt) -> Iterator[Report]:
    broken = _settings(server, sources, _BEFORE, "broken")
    databases.create(broken, interrupt, through="postgres")
    for store in _CUTS:
        _half_apply(broken, store, interrupt)
    yield (
        _heading("4. The incident: the vendor's tool is killed halfway."),
        "   (Its statements are run here as it runs them, one by one in autocommit,",
        "   up to the cut.) Its retry, and every retry after that, ends with:",
        Toned(f"   {_retry(broken, interrupt)}", Tone.REFUSED),
    )
    yield _status(broken, interrupt)
    yield _migrate(broken, interrupt)
    verdicts = (report.verify_text(verdict) for verdict in verify.verify(broken, interrupt))
    yield (_command("verify", broken), *(piece for verdict in verdicts for piece in verdict))


def _half_apply(wanted: Settings, store: Store, interrupt: Interrupt) -> None:
    """Leave a store as the vendor's tool does when it is killed: with a version row, and a half-applied step."""
    own = wanted.store(store)
    until, statements = _CUTS[store]
    with connection.connect(own, interrupt, patience=10) as conn:
        with transactions.batch(conn, "public") as sent:
            version_table.set_up(sent, own.database)
        previous = UNVERSIONED
        for step in _steps(wanted, store):
            cut = str(step.version) == until
            for statement in step.statements[: statements if cut else None]:
                conn.execute(statement.text.encode())
            if cut:
                return
            with transactions.batch(conn, "public") as sent:
                version_table.move(sent, own.database, step, previous)
            previous = step.version


def _retry(wanted: Settings, interrupt: Interrupt) -> str:
    """Run the first step again as the vendor's tool does, which ignores what already exists, and return the error."""
    with connection.connect(wanted.store(Store.DEFAULT), interrupt, patience=10) as conn:
        for statement in _steps(wanted, Store.DEFAULT)[0].statements:
            try:
                conn.execute(statement.text.encode())
            except (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateColumn):
                continue
            except psycopg.Error as error:
                return f"ERROR: {error.diag.message_primary}"
    return "no error"


def _steps(wanted: Settings, store: Store) -> tuple[Step, ...]:
    return wanted.release.source(store).steps


def _migrate(wanted: Settings, interrupt: Interrupt) -> Report:
    started = time.monotonic()
    done = migrate.migrate(wanted, interrupt)
    took = f"{time.monotonic() - started:.2f} s in all"
    return (_command("migrate", wanted), *report.migration_text(done), took)


def _status(wanted: Settings, interrupt: Interrupt) -> Report:
    return (_command("status", wanted), *status_report.status_text(status.status(wanted, interrupt)))


def _command(name: str, wanted: Settings) -> Toned:
    return Toned(f"$ schema-migrator {name} --temporal-version {wanted.run.temporal_version}", Tone.COMMAND)


def _heading(text: str) -> Toned:
    return Toned(text, Tone.HEADING)


def _settings(server: Server, sources: tuple[Path, ...], release: str, name: str) -> Settings:
    """Return settings that no environment variable of the caller can change."""
    connection = {"HOST": server.host, "PORT": server.port, "USER": server.user, "PASSWORD": server.password}
    flags = {f"{store}_SQL_{key}": value for store in ("DEFAULT", "VISIBILITY") for key, value in connection.items()}
    databases = {"DEFAULT_SQL_DATABASE": name, "VISIBILITY_SQL_DATABASE": f"{name}_visibility"}
    own = {"TEMPORAL_VERSION": release, f"{PREFIX}SOURCES": sources, f"{PREFIX}LOG_LEVEL": "error"}
    return settings.read({**flags, **databases, **own}, {})

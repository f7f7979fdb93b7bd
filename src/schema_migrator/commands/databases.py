"""The stores' databases themselves: created if they are missing, dropped on request. Their schemas are in `migrate`."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator import events
from schema_migrator.concurrency import Interrupt, run_parallel
from schema_migrator.config.options import scope_of
from schema_migrator.errors import (
    MigratorError,
    NoIdentity,
    PasswordRejected,
    PreflightFailed,
    RetryableError,
    ServerBusy,
    SettingsError,
    UnknownState,
    gravest,
)
from schema_migrator.postgres import connection, server_errors, session_settings, transactions
from schema_migrator.postgres.conninfo import APPLICATION

if TYPE_CHECKING:
    from schema_migrator.config.settings import Settings, StoreSettings
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Store


_USUAL = ("postgres", "defaultdb", "template1")
"""Databases that new servers have; the second one is DigitalOcean's and Aiven's."""
_LONGEST = 63  # bytes of a name; PostgreSQL truncates longer ones
_PATTERN = re.compile(r"[*?$<>{}\x00-\x1f\x7f]")
_PAUSE_SECONDS = 1.0
_UNLIMITED = session_settings.Limits(table_lock=0, statement=0)


def create(settings: Settings, interrupt: Interrupt, *, through: str | None) -> dict[Store, bool]:
    """Create the stores' databases that are missing; return for each store whether its database was created.

    Connects to the database `through`, or to the first of the usual ones that accepts us. Databases are created one
    after the other, because two sessions in template1 would block each other. Raises SettingsError for a name that
    cannot be intended.
    """
    for wanted in settings.stores:
        _assert_meant(wanted)
    created: dict[Store, bool] = {}
    for wanted in settings.stores:
        created |= run_parallel((wanted.store,), interrupt, lambda store: _create(settings, store, interrupt, through))
    return created


def _assert_meant(wanted: StoreSettings) -> None:
    """Raise SettingsError for a pattern, an unfilled template, or a name so long that PostgreSQL would truncate it."""
    name = wanted.database
    if not _PATTERN.search(name) and any(map(str.isalnum, name)) and len(name.encode()) <= _LONGEST:
        return
    raise SettingsError(
        f"the database's name is {json.dumps(name[: _LONGEST + 1], ensure_ascii=False)}, expected a name with letters"
        f" or digits, without any of *?$<>{{}}, of at most {_LONGEST} bytes",
        hint=f"set {scope_of(wanted.store)}DATABASE",
        store=wanted.store,
    )


def _connected(settings: Settings, wanted: StoreSettings, interrupt: Interrupt, through: str | None) -> Connection:
    """Connect to the database `through`, or to the first of the usual ones that accepts us."""
    if through is not None:
        return connection.connect(replace(wanted, database=through), interrupt, patience=settings.run.wait_timeout)
    patience, began = settings.run.wait_timeout, time.monotonic()
    while True:
        failed: list[MigratorError] = []
        for name in _USUAL:
            so_far = round(time.monotonic() - began)  # what is left of that patience is one attempt
            try:
                return connection.connect(replace(wanted, database=name), interrupt, patience=so_far, began=began)
            except (PasswordRejected, NoIdentity):  # a rotated one, or an identity, may arrive within seconds
                return connection.connect(replace(wanted, database=name), interrupt, patience=patience)
            except (RetryableError, PreflightFailed) as error:  # it does not exist, or does not accept us
                failed.append(error)
        first = gravest(failed)
        if time.monotonic() >= began + patience or not isinstance(first, RetryableError):
            raise _refused(first)
        events.logger().warning("database.waiting", database=wanted.address, reason=first.message)
        interrupt.sleep(_PAUSE_SECONDS)


def _refused(error: MigratorError) -> MigratorError:
    """Return the error, if it may help with the hint to name another database."""
    if " does not exist" in error.message or isinstance(error, PreflightFailed):
        error.hint = f"tried {', '.join(_USUAL)}: name a database that accepts this role: --through NAME"
    return error


def drop(settings: Settings, interrupt: Interrupt, *, through: str | None) -> None:
    """Drop the stores' databases. Raises UnknownState if one does not exist or has open connections."""
    for wanted in settings.stores:
        conn = _connected(settings, wanted, interrupt, through)
        with server_errors.translated(wanted, interrupt), conn:
            try:
                with transactions.session(conn, _UNLIMITED, name=APPLICATION):
                    conn.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(wanted.database)))
            except psycopg.errors.InvalidCatalogName as error:
                raise UnknownState(f'database "{wanted.database}" does not exist', store=wanted.store) from error
            except psycopg.errors.ObjectInUse as error:
                raise UnknownState(
                    f'database "{wanted.database}" was not dropped: {error.diag.message_detail}',
                    hint="stop the servers that use it",
                    store=wanted.store,
                ) from error
            transactions.confirm(conn, settings.run.wait_timeout)


def _create(settings: Settings, store: Store, interrupt: Interrupt, through: str | None) -> bool:
    wanted = settings.store(store)
    conn = _connected(settings, wanted, interrupt, through)
    with server_errors.translated(wanted, interrupt), conn:
        if transactions.ask(conn, "SELECT FROM pg_database WHERE datname = %s", [wanted.database]):
            return False
        try:
            with transactions.session(conn, _UNLIMITED, name=APPLICATION):
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(wanted.database)))
        except psycopg.errors.DuplicateDatabase:
            return False
        except psycopg.errors.UniqueViolation:  # another run created it at the same moment
            return False
        except psycopg.errors.ObjectInUse as error:
            raise ServerBusy(
                f'the database "{wanted.database}" was not created: {error.diag.message_primary}',
                hint="run it again when no session is connected to the template",
                store=store,
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise PreflightFailed(
                f'role "{wanted.user}" may not create the database "{wanted.database}"',
                hint=f'as a superuser run: ALTER ROLE "{wanted.user}" CREATEDB; or create the database yourself',
                store=store,
            ) from error
        transactions.confirm(conn, settings.run.wait_timeout)
    return True

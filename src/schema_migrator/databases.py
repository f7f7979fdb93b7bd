"""The stores' databases themselves: created where they are missing, dropped where that is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator import database
from schema_migrator.errors import PreflightFailed, UnknownState
from schema_migrator.workers import Interrupt, side_by_side

if TYPE_CHECKING:
    from schema_migrator.settings import Settings
    from schema_migrator.source import Store


def create(settings: Settings, interrupt: Interrupt, *, through: str) -> dict[Store, bool]:
    """Create the stores' databases where they are missing; return which were made.

    As the vendor's create-database does: connected to the database `through`.
    """
    stores = tuple(one.store for one in settings.stores)
    return side_by_side(stores, interrupt, lambda store: _create(settings, store, interrupt, through))


def drop(settings: Settings, interrupt: Interrupt, *, through: str) -> None:
    """Drop the stores' databases. Raises UnknownState where one is not there or somebody is connected to it."""
    for wanted in settings.stores:
        conn = database.connect(replace(wanted, database=through), interrupt, patience=settings.run.wait_timeout)
        with database.translated(wanted, interrupt), conn:
            try:
                conn.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(wanted.database)))
            except psycopg.errors.InvalidCatalogName as error:
                raise UnknownState(f'database "{wanted.database}" is not there', store=wanted.store) from error
            except psycopg.errors.ObjectInUse as error:
                raise UnknownState(
                    f'database "{wanted.database}" was not dropped: {error.diag.message_detail}',
                    hint="stop the servers that use it",
                    store=wanted.store,
                ) from error


def _create(settings: Settings, store: Store, interrupt: Interrupt, through: str) -> bool:
    wanted = settings.store(store)
    conn = database.connect(replace(wanted, database=through), interrupt, patience=settings.run.wait_timeout)
    with database.translated(wanted, interrupt), conn:
        if database.ask(conn, "SELECT FROM pg_database WHERE datname = %s", [wanted.database]):
            return False
        try:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(wanted.database)))
        except psycopg.errors.DuplicateDatabase:
            return False
        except psycopg.errors.UniqueViolation:  # two of us at the same moment: the other one made it
            return False
        except psycopg.errors.InsufficientPrivilege as error:
            raise PreflightFailed(
                f'role "{wanted.user}" may not create the database "{wanted.database}"',
                hint=f'as a superuser run: ALTER ROLE "{wanted.user}" CREATEDB; or create the database yourself',
                store=store,
            ) from error
    return True

"""Whatever a person changed by hand: an upgrade reaches its target and names it, or refuses before its first change."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from engine import Engine
from handmade import CHANGES, change
from schema_migrator.errors import MigratorError, exit_code
from states import LATEST, Site, site
from stores import Databases, fresh, unique

VERSIONS = {
    "default": ("1.3", "1.4", "1.7", "1.12", "1.14", "1.15", "1.17", "1.18", "1.19"),
    "visibility": ("1.1", "1.2", "1.5", "1.6", "1.8", "1.9", "1.12", "1.13", "1.14"),
}
ROWS = {
    "default": (
        "INSERT INTO namespaces VALUES (54321, '\\x01', 'one', 7, '\\x02', 'Proto3', false)",
        "INSERT INTO shards VALUES (1, 2, '\\x03', 'Proto3')",
        "UPDATE namespace_metadata SET notification_version = 8",
    ),
    "visibility": (
        (
            "INSERT INTO executions_visibility (namespace_id, run_id, start_time, execution_time, workflow_id,"
            " workflow_type_name, status, encoding) VALUES ('n', 'r', now(), now(), 'w', 't', 1, 'json')"
        ),
    ),
}
Outcome = Literal["reached", "refused"]
Made = Callable[[str, str], Site]
"""Gives a new store of a version, with rows."""


@pytest.fixture(scope="module")
def made(server: Engine) -> Iterator[Made]:
    """Return what copies a store of a version, each of which is installed once."""
    with fresh(server) as databases:

        @cache
        def installed(store: str, version: str) -> str:
            name = databases.create()
            here = site(databases, store, **{f"{store.upper()}_SQL_DATABASE": name}).install(version)
            here.run(*ROWS[store])
            return name

        yield lambda store, version: copied(databases, store, installed(store, version))


def copied(databases: Databases, store: str, template: str) -> Site:
    """Return the site of a copy of a database, whose version row bears the copy's name."""
    name = unique("temporal_copy")
    with databases.admin() as admin:
        query = "CREATE DATABASE {} OWNER {} TEMPLATE {}"
        admin.execute(sql.SQL(query).format(*map(sql.Identifier, (name, databases.user, template))))
    found = site(databases, store, SCHEMA_MIGRATOR_LOG_LEVEL="info").at(name)
    found.run(f"UPDATE schema_version SET db_name = '{name}'")
    return found


def drop(found: Site) -> None:
    """Drop a copy."""
    with found.databases.admin() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(found.name)))


def outcome(store: Site, **variables: str) -> tuple[Outcome, str]:
    """Plan, then migrate: both refuse with the same words and nothing is changed, or the target is reached whole.

    What still differs then was named. Returns what became of it, and what was said.
    """
    before = store.picture()
    try:
        store.plan(**variables)
    except MigratorError as refusal:
        assert store.refused(**variables).message == refusal.message
        assert exit_code(refusal) == 3
        assert store.picture() == before
        return "refused", str(refusal)
    assert store.picture() == before
    with capture_logs() as events:
        done = store.migrate(**variables)
    assert str(store.status().state.version) == LATEST[store.store]  # type: ignore[union-attr]  # a state with one
    named = [event["object"] for event in events if event["event"] == "schema.drift"]
    assert len(named) == len(set(named))
    if done.verdict is not None:
        changes = (*done.verdict.difference.missing, *done.verdict.difference.different)
        assert {str(one.key) for one in changes} <= set(named)
    return "reached", ", ".join(named)


def tried(made: Made, name: str, kind: str, version: str, *, strict: bool) -> tuple[Outcome, str] | None:
    """Make a change and migrate; None where the version has not what it changes."""
    store = made(kind, version)
    try:
        try:
            store.admin(*change(name, kind))
        except psycopg.errors.ProgrammingError:
            return None
        return outcome(store, **({"SCHEMA_MIGRATOR_ON_DRIFT": "fail"} if strict else {}))
    finally:
        drop(store)

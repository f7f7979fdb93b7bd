"""Whatever a person changed by hand: an upgrade reaches its target and names it, or refuses before its first change."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from typing import Literal

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from schema_migrator.errors import MigratorError, exit_code
from support.postgres.databases import Databases, fresh, unique
from support.postgres.engine import Engine
from support.program.drift import CHANGES, change
from support.program.store_driver import LATEST, Site, site
from support.selection import EVERYTHING, spread

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
HARMLESS = (
    "row security",
    "unlogged",
    "policy",
    "storage",
    "default added",
    "longer",
    "index dropped",
    "index renamed",
    "index made partial",
    "primary key renamed",
    "key turned round",
    "check",
    "extra unique index",
    "trigger",
    "function with a search_path",
)
HARMFUL = (
    ("constraint dropped", "visibility", "1.9", "executions_visibility_pkey is missing, PRIMARY KEY"),
    ("interrupted restore", "visibility", "1.6", "executions_visibility_pkey is missing, PRIMARY KEY (namespace_id"),
    ("key of other columns", "default", "1.18", "expected PRIMARY KEY (shard_id, namespace_id, workflow_id)"),
    ("column dropped", "default", "1.14", "the column executions.next_event_id is missing and Temporal cannot"),
    ("table dropped", "default", "1.18", "the table signals_requested_sets is missing and Temporal cannot"),
    ("partitioned", "default", "1.14", "step 1.15 changes the table current_executions, which was changed to a part"),
    ("view", "visibility", "1.5", 'step 1.6 changes or drops the column "root_run_id" of'),
    ("view", "default", "1.7", 'step 1.8 changes or drops the column "create_request_id" of'),
    ("generated column", "default", "1.7", 'step 1.8 changes or drops the column "create_request_id" of'),
    ("trigger of a column", "default", "1.7", ""),
    ("function replaced", "visibility", "1.9", "needs the function convert_ts(s character varying): that was ch"),
    ("function of the same name", "visibility", "1.1", 'creates "convert_ts", but your function'),
    ("another type", "visibility", "1.1", "needs the column executions_visibility.close_time: that was changed"),
    ("view of a coming name", "default", "1.14", 'creates "current_chasm_executions", but your view'),
    ("type of a coming name", "default", "1.14", 'creates "current_chasm_executions", but your type'),
    ("index of a coming name", "default", "1.14", 'creates "chasm_node_maps", but your index'),
    ("index on a column that goes", "visibility", "1.5", "drops a column that the index executions_visibility."),
    ("extension dropped", "visibility", "1.9", "needs the extension btree_gin: that is not there"),
)
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


def foretold(store: Site, **variables: str) -> MigratorError | None:
    """Return plan's refusal; see that it changes nothing."""
    before = store.picture()
    try:
        store.plan(**variables)
    except MigratorError as error:
        return error
    finally:
        assert store.picture() == before
    return None


def outcome(store: Site, **variables: str) -> tuple[Outcome, str]:
    """Plan, then migrate: both refuse with the same words and nothing is changed, or the target is reached whole.

    What still differs then was named. Returns what became of it, and what was said.
    """
    refusal = foretold(store, **variables)
    if refusal is not None:
        assert exit_code(refusal) in (12, 20, 21, 23)
        assert store.refused(**variables).message == refusal.message
        return "refused", str(refusal)
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
            (store.admin if name == "owner" else store.run)(*change(name, kind))
        except psycopg.Error:
            return None
        return outcome(store, **({"SCHEMA_MIGRATOR_ON_DRIFT": "fail"} if strict else {}))
    finally:
        drop(store)


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in {*HARMLESS, *(one[0] for one in HARMFUL)}])
def test_whatever_was_changed_by_hand(made: Made, name: str) -> None:
    """Of each change one case: store, version and mode go round."""
    number = list(CHANGES).index(name)
    kind = ("default", "visibility")[number % 2]
    versions = VERSIONS[kind]
    turned = (*versions[number % len(versions) :], *versions[: number % len(versions)])
    found = (tried(made, name, kind, version, strict=number % 4 > 1) for version in turned)
    assert next(one for one in found if one is not None)


@pytest.mark.matrix
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", VERSIONS)
@pytest.mark.parametrize("name", spread(CHANGES, 3))
def test_whatever_was_changed_by_hand_in_any_version(made: Made, name: str, kind: str) -> None:
    """Every change, warned of and refused, in the newest version that has what it changes, or in each of them."""
    found = (
        [tried(made, name, kind, version, strict=strict) for strict in (False, True)]
        for version in reversed(VERSIONS[kind])
    )
    changed = (outcomes for outcomes in found if None not in outcomes)
    assert list(islice(changed, None if EVERYTHING else 1))


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_change_keeps_nothing_from_its_target(made: Made, name: str) -> None:
    """What no pending step needs is named, and the steps end."""
    found = tried(made, name, "visibility", "1.5", strict=False)
    assert found is not None
    assert found[0] == "reached"


@pytest.mark.parametrize(("name", "kind", "version", "said"), HARMFUL)
def test_what_would_stop_a_step_is_named_first(made: Made, name: str, kind: str, version: str, said: str) -> None:
    """However many steps come before the one that could not end."""
    found = tried(made, name, kind, version, strict=False)
    assert found is not None
    assert (found[0], said) == (("refused" if said else "reached"), said if said in found[1] else found[1])

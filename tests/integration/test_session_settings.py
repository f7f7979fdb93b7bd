"""Every statement of ours runs under our own settings, whatever the role, the database or the server has set."""

import datetime as dt
import json
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from schema_migrator.catalog import facts
from schema_migrator.commands import abandon, migrate, preview, status, verify
from schema_migrator.concurrency import Interrupt
from schema_migrator.config.settings import Settings, StoreSettings
from schema_migrator.postgres import connection, transactions
from support.postgres.databases import Databases
from support.program.store_driver import files, site
from support.visibility.executions import TABLE, fill

ROWS = 80
EXPLAINED = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_settings": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}
UNWANTED = {
    "search_path": "public",
    "jit": "on",
    "jit_above_cost": "0",
    "jit_inline_above_cost": "0",
    "jit_optimize_above_cost": "0",
    "idle_session_timeout": "3s",
    "enable_indexscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_sort": "off",
    "max_parallel_workers_per_gather": "8",
    "plan_cache_mode": "force_generic_plan",
    "constraint_exclusion": "on",
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "cursor_tuple_fraction": "1",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "default_transaction_isolation": "serializable",
    "idle_in_transaction_session_timeout": "1s",
    "statement_timeout": "1s",
    "lock_timeout": "1",
    "DateStyle": "SQL, DMY",
    "bytea_output": "escape",
    "array_nulls": "off",
}
OURS = {"search_path": "pg_catalog, pg_temp", "jit": "off", "max_parallel_workers_per_gather": "0"}
"""What differs from PostgreSQL's own defaults and is ours; `EXPLAIN (SETTINGS)` names nothing that does not differ."""
OUR_TABLES = ("schema_migrator_", '"pg_temp".', f'"{TABLE}" l WHERE')
"""What is in the statements of the copy, the checks and the proof, which may have switches of their own."""
COSTS = {"jit_above_cost", "jit_inline_above_cost", "jit_optimize_above_cost"}


class Watched:
    """The plans of all statements that have been run, with the settings under which each was."""

    def __init__(self) -> None:
        self.plans: list[tuple[str, dict[str, str]]] = []
        self.connections = 0

    def connect(self, conn: psycopg.Connection[object]) -> None:
        """Listen to one more connection."""
        self.connections += 1
        conn.add_notice_handler(self.note)

    def note(self, notice: psycopg.errors.Diagnostic) -> None:
        """Take what auto_explain says of a statement."""
        _, found, plan = (notice.message_primary or "").partition("plan:\n")
        if found:
            said = json.loads(plan)
            self.plans.append((said["Query Text"], said.get("Settings", {})))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Listen to every connection that the program opens."""
    found, real = Watched(), connection._connect_once

    def connect(settings: StoreSettings, limit: connection._Patience) -> connection.Connection:
        conn = real(settings, limit)
        found.connect(conn)
        return conn

    monkeypatch.setattr(connection, "_connect_once", connect)
    return found


@pytest.fixture(params=["owner", "superuser"])
def role(request: pytest.FixtureRequest, databases: Databases) -> Iterator[dict[str, str]]:
    """Let a role have the most unwanted settings, and each statement of its sessions explained to it."""
    user, password = databases.user, databases.password
    if request.param == "superuser":
        user, password = f"{databases.user}_super", "super"
    identifier = sql.Identifier(user)
    with databases.admin() as admin:
        if request.param == "superuser":
            admin.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD 'super'").format(identifier))
        known = {name for (name,) in admin.execute("SELECT name FROM pg_settings").fetchall()}
        for name, value in {**UNWANTED, **EXPLAINED}.items():
            if name in known or "." in name:
                admin.execute(f"LOAD 'auto_explain'; ALTER ROLE \"{user}\" SET {name} = '{value}'".encode())
    yield {"SQL_USER": user, "SQL_PASSWORD": password}
    with databases.admin() as admin:
        if request.param == "superuser":
            for store in ("default", "visibility"):
                with databases.admin(databases.name(store)) as there:
                    there.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
            admin.execute(sql.SQL("DROP ROLE {}").format(identifier))


def squeezed(query: str) -> str:
    """Return a query's words, to be found in a file: PL/pgSQL runs the parts of a block."""
    return " ".join(query.strip("() \n").split())


@pytest.mark.parametrize("rewrite", ["online", "in-place"])
def test_every_statement(databases: Databases, role: dict[str, str], watched: Watched, rewrite: str) -> None:
    """From status to the end of an upgrade: planner switches of one statement never reach another."""
    store = site(databases, "visibility", **role, SCHEMA_MIGRATOR_REWRITE=rewrite).install("1.9")
    with databases.admin(store.name) as admin:
        fill(admin, ROWS)
    settings = store.given(SCHEMA_MIGRATOR_MAX_LOCK_SECONDS="600").settings()
    run: tuple[Callable[[Settings, Interrupt], object], ...] = (
        status.status,
        preview.show_plan,
        migrate.migrate,
        verify.verify,
        abandon.abandon,
    )
    for command in run:
        command(settings, Interrupt())
    vendors = squeezed("".join(file.text for step in files("visibility").steps for file in step.files))
    assert watched.connections > 5
    assert len(watched.plans) > 100
    for query, found in watched.plans:
        switched = {name for name in found if name.startswith("enable_")}
        if not any(ours in query for ours in OUR_TABLES):
            assert not switched, (query, found)
        if query not in facts._ROLES_SCHEMA and squeezed(query) not in vendors:
            assert {name: found.get(name, "").replace('"', "") for name in OURS} == OURS, query
        assert not found.keys() - OURS.keys() - switched - COSTS, (query, found)


# An index of the user's own whose function tells, as it is called by VACUUM (ANALYZE).
TELLING = f"""
CREATE SCHEMA own;
CREATE SEQUENCE own.workers;
CREATE FUNCTION own.tell(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
BEGIN
  IF starts_with(current_query(), 'VACUUM (ANALYZE)') THEN
    PERFORM setval('own.workers', 1 + current_setting('max_parallel_maintenance_workers')::int);
  END IF;
  RETURN given;
END $$;
CREATE INDEX own_tell ON {TABLE} (own.tell(workflow_id));
"""


def test_a_vacuum_of_ours_shares_no_memory(databases: Databases) -> None:
    """Up to PostgreSQL 16 a parallel one needs as much shared memory as a container has in all, or more."""
    store = site(databases, "visibility").install("1.9").given(SCHEMA_MIGRATOR_REWRITE="online")
    with store.connect() as owner:
        fill(owner, ROWS)
        owner.execute(TELLING.encode())
    store.migrate()
    with store.connect() as owner:
        assert owner.execute("SELECT last_value, is_called FROM own.workers").fetchone() == (1, True)


@pytest.mark.parametrize("style", ["SQL, DMY", "SQL, MDY", "German", "Postgres, DMY"])
def test_dates_are_read_in_the_format_that_we_set(databases: Databases, style: str) -> None:
    """The server reports a new DateStyle too late for the first answers of a pipeline."""
    store = site(databases, "default")
    with databases.admin() as admin:
        change = sql.SQL("ALTER DATABASE {} SET DateStyle = {}")
        admin.execute(change.format(sql.Identifier(store.name), sql.Literal(style)))
    (of_store,) = store.settings().stores
    with connection.connect(of_store, Interrupt(), patience=0) as conn, transactions.look(conn):
        given = "date '2026-11-27', timestamp '2026-11-27 01:02:03', timestamptz '2026-11-27 01:02:03+02'"
        ((day, local, instant),) = conn.execute(f"SELECT {given}".encode()).fetchall()
    assert day == dt.date(2026, 11, 27)
    assert local == dt.datetime(2026, 11, 27, 1, 2, 3)  # noqa: DTZ001 - it has no time zone
    assert instant == dt.datetime(2026, 11, 26, 23, 2, 3, tzinfo=dt.UTC)

"""What can be found out before an online rewrite puts its trigger on the table: rows, functions and indexes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql
from structlog.testing import capture_logs

from schema_migrator.errors import DoesNotFit, MigratorError, PreflightFailed, RewriteBlocked, StatementFailed
from schema_migrator.online import value_checks
from support.postgres.databases import fresh
from support.postgres.engine import Connection, Engine
from support.program.store_driver import Site, site
from support.visibility import rewriting
from support.visibility.executions import TABLE, fill
from support.visibility.rewriting import SCHEMAS, Origin, events

ROWS = 300
ONLINE = {"SCHEMA_MIGRATOR_REWRITE": "online"}
KEY = f"SELECT namespace_id, run_id FROM {TABLE} ORDER BY run_id OFFSET {ROWS // 2} LIMIT 1"
FILE = (
    f"SELECT relfilenode, (SELECT array_agg(ctid ORDER BY ctid) FROM {TABLE}) FROM pg_class WHERE relname = '{TABLE}'"
)
TRIGGERS = f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{TABLE}'::regclass"
SET = f"UPDATE {TABLE} SET search_attributes = jsonb_set(search_attributes, %s, %s) WHERE run_id = %s"
UNSET = f"UPDATE {TABLE} SET search_attributes = search_attributes - %s WHERE run_id = %s"
VALUES = {
    "TemporalKeyword02": ('"' + "x" * 300 + '"', "value too long for type character varying(255)"),
    "TemporalExternalPayloadCount": ('"many"', "cannot cast jsonb string to type bigint"),
    "TemporalDatetime01": ('"noon-ish"', 'invalid input syntax for type timestamp with time zone: "noon-ish"'),
    "TemporalDouble01": ("1e20", "numeric field overflow"),
}
"""Search attributes that 1.13 and 1.14 have columns for, each with a value that does not fit, and the reason."""
OWN = "CREATE FUNCTION own(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql{settings} AS $$BEGIN RETURN upper(t); END$$"
SETTLED = OWN.format(settings=" SET search_path = pg_catalog")


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.12 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.12", ROWS)


@contextmanager
def copied(origin: Origin) -> Iterator[tuple[Site, Connection]]:
    """Give a copy, with its owner's connection; drop it."""
    database = origin.copy()
    try:
        with origin.databases.connect(database) as owner:
            owner.execute(f"UPDATE {TABLE} SET search_attributes = '{{}}' WHERE search_attributes IS NULL".encode())
            yield site(origin.databases, "visibility").at(database).given(SCHEMA_MIGRATOR_LOG_LEVEL="info"), owner
    finally:
        with origin.databases.admin() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


def one(connection: Connection, query: str) -> tuple[object, ...]:
    """Return the one row that a query gives."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def key_of(owner: Connection) -> tuple[str, str]:
    """Return the key of a row in the middle."""
    namespace, run = one(owner, KEY)
    return str(namespace).rstrip(), str(run).rstrip()


def spoil(owner: Connection, attribute: str, value: str) -> tuple[str, str]:
    """Give a row a value; return its key."""
    namespace, run = key_of(owner)
    assert owner.execute(SET.encode(), [[attribute], value, run]).rowcount == 1
    return namespace, run


def mend(owner: Connection, attribute: str) -> None:
    """Take the value away again."""
    assert owner.execute(UNSET.encode(), [attribute, key_of(owner)[1]]).rowcount == 1


def refused(where: Site, owner: Connection) -> MigratorError:
    """Return the refusal of an online rewrite that leaves the database and the table's file as they were."""
    before = one(owner, FILE)
    found = where.refused(**ONLINE)
    assert one(owner, FILE) == before
    assert owner.execute(SCHEMAS.encode()).fetchall() == []
    assert one(owner, TRIGGERS) == (0,)
    return found


def assert_goes_online(where: Site, owner: Connection, rows: int = ROWS) -> list[dict[str, object]]:
    """Migrate online to the target; return the events."""
    with capture_logs() as logs:
        where.migrate(**ONLINE)
    assert where.status().up_to_date
    assert one(owner, f"SELECT count(*) FROM {TABLE}") == (rows,)
    assert "online.cut_over" in [event["event"] for event in logs]
    return [dict(event) for event in logs]


def test_a_row_that_does_not_fit_is_named(origin: Origin) -> None:
    """Nothing is begun; the sentence names table, column, row, reason and remedy, which works."""
    with copied(origin) as (where, owner):
        for attribute, (value, reason) in VALUES.items():
            namespace, run = spoil(owner, attribute, value)
            found = refused(where, owner)
            assert isinstance(found, DoesNotFit), found
            assert (found.exit_code, str(found)) == (
                33,
                (
                    f'visibility: a row of "{TABLE}" does not fit the column "{attribute.lower()}", which 1.14 adds: '
                    f"{reason} (the row: namespace_id '{namespace}', run_id '{run}'); "
                    "correct its search_attributes or delete the row, then run this again; nothing was changed"
                ),
            )
            mend(owner, attribute)
        (checked,) = [one for one in assert_goes_online(where, owner) if one["event"] == "online.values_checked"]
        assert checked["rows"] == ROWS


def test_every_row_is_found_in_small_ranges(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page at a time, the first row and the last one are found as well."""
    monkeypatch.setattr(value_checks, "_PAGES", 1)
    with copied(origin) as (where, owner):
        assert one(owner, f"SELECT max(ctid) > '(3,0)' FROM {TABLE}") == (True,)
        for end in ("min", "max"):
            found_at = f"(SELECT {end}(ctid) FROM {TABLE})"
            spoilt = f'UPDATE {TABLE} SET search_attributes = \'{{"TemporalInt01": "x"}}\' WHERE ctid = {found_at}'
            key = owner.execute(f"{spoilt} RETURNING run_id".encode()).fetchone()
            assert key is not None
            found = refused(where, owner)
            assert f"run_id '{key[0].rstrip()}'" in found.message
            owner.execute(f"UPDATE {TABLE} SET search_attributes = '{{}}' WHERE run_id = %s".encode(), key)


CHANGED = {
    'check "own_check"': (
        f"ALTER TABLE {TABLE} ADD CONSTRAINT own_check CHECK (own(workflow_id) IS NOT NULL)",
        "RETURN CASE WHEN t <> '{workflow}' THEN t END",
        f'new row for relation "{TABLE}" violates check constraint "own_check"',
    ),
    'column "own_column"': (
        f"ALTER TABLE {TABLE} ADD own_column text GENERATED ALWAYS AS (own(workflow_id)) STORED",
        "IF t = '{workflow}' THEN RAISE 'not this one'; END IF; RETURN t",
        "not this one",
    ),
}


@pytest.mark.parametrize(("part", "made"), CHANGED.items(), ids=CHANGED)
def test_what_the_copy_computes_again_is_checked_too(origin: Origin, part: str, made: tuple[str, str, str]) -> None:
    """A column or check of the user's own, whose function has changed since a row was written."""
    statement, body, reason = made
    with copied(origin) as (where, owner):
        namespace, run = key_of(owner)
        owner.execute(SETTLED.encode())
        owner.execute(statement.encode())
        (workflow,) = one(owner, f"SELECT workflow_id FROM {TABLE} WHERE run_id = '{run}'")
        changed = SETTLED.replace("CREATE", "CREATE OR REPLACE").replace("RETURN upper(t)", body)
        owner.execute(changed.format(workflow=workflow).encode())
        found = refused(where, owner)
        assert isinstance(found, DoesNotFit), found
        assert found.message == (
            f'a row of "{TABLE}" does not fit the {part}, which PostgreSQL recomputes: {reason} '
            f"(the row: namespace_id '{namespace}', run_id '{run}')"
        )
        assert found.hint.startswith("correct its workflow_id or ")


def test_a_value_that_comes_during_the_rewrite(origin: Origin) -> None:
    """It ends the run with the same sentence, which says that the rewrite carries on once the row is corrected."""
    with copied(origin) as (where, owner):
        with origin.held(where.name) as held:
            namespace, run = spoil(owner, "TemporalKeyword02", '"' + "x" * 300 + '"')
            ended = held.release()
        assert ended.code == 33
        assert ended.stderr.splitlines()[-1] == (
            f'error: visibility: a row of "{TABLE}" does not fit the column "temporalkeyword02", which 1.14 adds: '
            f"value too long for type character varying(255) (the row: namespace_id '{namespace}', run_id '{run}'); "
            "correct its search_attributes or delete the row, then run this again; "
            "the next migrate resumes it; or run migrate --abandon"
        )
        mend(owner, "TemporalKeyword02")
        again = origin.run(where.name)
        assert again.code == 0, again.stderr
        assert "online.resumed" in [event["event"] for event in events(again)]
        assert where.status().up_to_date


def test_without_temporary_tables_nothing_is_checked_and_that_is_said(origin: Origin) -> None:
    """A role without TEMP learns the GRANT from a warning, and goes on; a bad row then ends the copy."""
    with copied(origin) as (where, owner):
        where.admin(f'REVOKE TEMPORARY ON DATABASE "{where.name}" FROM PUBLIC, "{origin.databases.user}"')
        spoil(owner, "TemporalInt01", '"x"')
        with capture_logs() as logs, pytest.raises(StatementFailed) as found:
            where.migrate(**ONLINE)
        assert "cannot cast jsonb string to type bigint" in found.value.message
        told = [(one["table"], one["grant"]) for one in logs if one["event"] == "online.values_unchecked"]
        grant = f'GRANT TEMPORARY ON DATABASE "{where.name}" TO "{origin.databases.user}"'
        assert set(told) == {(TABLE, grant)}
        where.admin(grant)
        mend(owner, "TemporalInt01")
        assert_goes_online(where, owner)


def lines(found: MigratorError) -> list[str]:
    """Return what stands against the copy and the remedies."""
    assert isinstance(found, RewriteBlocked), found
    assert found.message == f'"{TABLE}" cannot be rewritten online in its current form; nothing was changed'
    return [line.strip(" -") for line in found.detail.splitlines()]


MADE = {
    'check "own_check"': f"ALTER TABLE {TABLE} ADD CONSTRAINT own_check CHECK (own(task_queue) <> '')",
    'column "own_column"': f"ALTER TABLE {TABLE} ADD own_column text GENERATED ALWAYS AS (own(task_queue)) STORED",
    'index "own_index"': f"CREATE INDEX own_index ON {TABLE} (own(task_queue))",
    'index "own_partial"': f"CREATE INDEX own_partial ON {TABLE} (status) WHERE own(task_queue) = ''",
}


def test_a_function_that_the_role_may_not_execute(origin: Origin) -> None:
    """It is named with the GRANT, which lets the rewrite through."""
    with copied(origin) as (where, owner):
        where.admin(SETTLED)
        where.run(*MADE.values())
        where.admin("REVOKE EXECUTE ON FUNCTION own FROM PUBLIC")
        role = origin.databases.user
        grant = f'GRANT EXECUTE ON FUNCTION public.own(text) TO "{role}";'
        assert lines(refused(where, owner)) == [
            line
            for what in MADE
            for line in (
                f'{what} calls public.own(text), which the role "{role}" may not execute',
                f"as its owner run: {grant}",
            )
        ]
        where.admin(grant)
        assert_goes_online(where, owner)


def test_a_function_without_a_search_path_of_its_own(origin: Origin) -> None:
    """It is named with the ALTER FUNCTION, which lets the rewrite through; the vendor's and C's may stay."""
    with copied(origin) as (where, owner):
        where.run(OWN.format(settings=""), *MADE.values())
        alter = "ALTER FUNCTION public.own(text) SET search_path ="
        assert lines(refused(where, owner)) == [
            line
            for what in MADE
            for line in (
                f"{what} calls public.own(text), which finds other objects under another search_path",
                f"as its owner run: {alter} <the schemas that its body needs>;",
            )
        ]
        where.admin("CREATE EXTENSION pg_trgm")
        where.run(
            f"{alter} pg_catalog",
            f"CREATE INDEX by_vendors ON {TABLE} (convert_ts(nullif(task_queue, task_queue)))",
            f"CREATE INDEX by_trigrams ON {TABLE} USING gin (workflow_id gin_trgm_ops)",
        )
        assert_goes_online(where, owner)


def test_an_operator_calls_a_function_too(origin: Origin) -> None:
    """An index by an operator of the user's own, whose function may no longer be executed."""
    with copied(origin) as (where, owner):
        where.admin(
            SETTLED.replace("own(t text)", "own(t text, u text)"),
            "CREATE OPERATOR public.=~~= (FUNCTION = own, LEFTARG = text, RIGHTARG = text)",
        )
        owner.execute(f"CREATE INDEX own ON {TABLE} ((task_queue::text OPERATOR(public.=~~=) 'x'))".encode())
        where.admin("REVOKE EXECUTE ON FUNCTION own FROM PUBLIC")
        (said, _) = lines(refused(where, owner))
        assert said.startswith('index "own" calls public.own(text,text), which the role ')


def test_an_index_that_cannot_be_built_is_named_beforehand(origin: Origin) -> None:
    """Each index is tried on the empty copy: here the role may no longer execute what a predicate's function calls."""
    with copied(origin) as (where, owner):
        where.admin("CREATE SCHEMA hidden", "GRANT USAGE ON SCHEMA hidden TO PUBLIC", "SET search_path = hidden")
        where.admin(SETTLED.replace("own(t", "hidden.own(t"))
        owner.execute(f"CREATE INDEX own ON {TABLE} (hidden.own(task_queue))".encode())
        where.admin("REVOKE USAGE ON SCHEMA hidden FROM PUBLIC")
        found = refused(where, owner)
        assert isinstance(found, PreflightFailed), found
        assert found.message == (
            f'PostgreSQL cannot build the index "own" of "{TABLE}" (42501): permission denied for schema hidden'
        )
        assert found.hint == "grant it, or make the role the object's owner; nothing was changed"


def test_an_index_that_meets_temp_file_limit_is_named(origin: Origin) -> None:
    """The sentence names index, limit and remedy; with the limit raised the rewrite carries on."""
    with copied(origin) as (where, owner):
        role = origin.databases.user
        wide = "SELECT string_agg(md5(workflow_id || i), '') FROM generate_series(1, 80) i"  # more than fits in memory
        owner.execute(f"DELETE FROM {TABLE}".encode())
        fill(owner, 4000)
        where.run(
            f"ALTER TABLE {TABLE} ADD own_wide text",
            f"UPDATE {TABLE} SET own_wide = ({wide})",
            f"CREATE INDEX own_wide ON {TABLE} (own_wide)",
        )
        with origin.databases.admin() as admin:
            admin.execute(f'ALTER ROLE "{role}" SET maintenance_work_mem = 1024'.encode())
            admin.execute(f'ALTER ROLE "{role}" SET temp_file_limit = 0'.encode())
            try:
                with pytest.raises(StatementFailed) as found:
                    where.migrate(**ONLINE, SCHEMA_MIGRATOR_JOBS="8")  # each has little memory
            finally:
                admin.execute(f'ALTER ROLE "{role}" RESET ALL'.encode())
        assert str(found.value).replace('"temp_file_limit"', "temp_file_limit") == (  # quoted since PostgreSQL 17
            f'visibility: PostgreSQL cannot build the index "own_wide" of "{TABLE}" (53400): '
            "temporary file size exceeds temp_file_limit (0kB); "
            f'raise that limit for the role, as a superuser: ALTER ROLE "{role}" SET temp_file_limit = -1; '
            f'a trigger on "{TABLE}" still logs changes (24 kB so far): '
            "schema-migrator migrate --abandon removes it with the copy"
        )
        assert "online.resumed" in [one["event"] for one in assert_goes_online(where, owner, 4000)]

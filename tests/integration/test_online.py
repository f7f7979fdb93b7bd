"""The online rewrite step by step: what it takes along, what it waits for, what it leaves, each held up to be seen."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from psycopg import errors, sql

from schema_migrator.online import damage
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.program.command import await_event, finish, run_cli
from support.program.references import picture
from support.program.store_driver import files
from support.vendor.kill_sweep import copy, differences
from support.vendor.tool import VendorTool
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.rewriting import SCHEMAS, Origin, events

ROWS = 400
BEGUN = "1.12"
"""Where a run from 1.9 stands before its swap: 1.10 to 1.12 are empty."""
COUNT = f"SELECT count(*) FROM {TABLE}"
TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgname ~ '^schema_migrator_'"
A_WRITE = f"UPDATE {TABLE} SET task_queue = 'meanwhile' WHERE run_id = (SELECT min(run_id) FROM {TABLE})"
A_DELETE = f"DELETE FROM {TABLE} WHERE run_id = (SELECT max(run_id) FROM {TABLE})"
WRITTEN = f"SELECT count(*) FROM {TABLE} WHERE task_queue = 'meanwhile'"
WORN = f"""
ALTER TABLE {TABLE} ADD COLUMN own_note text DEFAULT 'none' NOT NULL, ADD COLUMN own_gone int;
ALTER TABLE {TABLE} DROP COLUMN own_gone;
ALTER TABLE {TABLE} ADD CONSTRAINT own_check CHECK (history_length >= 0);
ALTER TABLE {TABLE} SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_enabled = false);
ALTER TABLE {TABLE} ALTER memo SET STORAGE EXTERNAL, ALTER workflow_id SET STATISTICS 500;
ALTER TABLE {TABLE} ALTER workflow_type_name SET (n_distinct = 20);
CREATE INDEX own_index ON {TABLE} USING hash (workflow_id) WITH (fillfactor = 70);
CREATE INDEX "own ON USING ""odd"" index" ON {TABLE} (lower(workflow_id) DESC NULLS LAST) WHERE status = 1;
COMMENT ON TABLE {TABLE} IS 'it''s ours';
COMMENT ON COLUMN {TABLE}.memo IS '100 % "memo"';
COMMENT ON COLUMN {TABLE}.own_note IS 'note';
COMMENT ON INDEX own_index IS 'by hand';
COMMENT ON CONSTRAINT executions_visibility_pkey ON {TABLE} IS 'key';
COMMENT ON CONSTRAINT own_check ON {TABLE} IS 'check';
ALTER TABLE {TABLE} CLUSTER ON own_clustered;
ALTER TABLE {TABLE} REPLICA IDENTITY FULL;
GRANT SELECT ON {TABLE} TO PUBLIC;
GRANT SELECT (memo), UPDATE (memo, own_note) ON {TABLE} TO {{server}} WITH GRANT OPTION;
REVOKE REFERENCES, TRUNCATE ON {TABLE} FROM {{owner}};
"""


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.9 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.9", ROWS)


@pytest.fixture(scope="module")
def older(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.5 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.5", ROWS)


def one(connection: Connection, query: str) -> object:
    """Return the one value that a query gives."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def names(connection: Connection, query: str) -> list[str]:
    """Return the names that a query gives."""
    return [name for (name,) in connection.execute(query.encode()).fetchall()]


def rows(databases: Databases, database: str) -> list[tuple[object, ...]]:
    """Return all rows with all columns, in the order of their keys."""
    with databases.connect(database) as owner:
        return owner.execute(f"SELECT * FROM {TABLE} ORDER BY namespace_id, run_id".encode()).fetchall()


def assert_at_target(origin: Origin, database: str) -> None:
    """See that the store is as the vendor's tool would have left it, with nothing of ours in it."""
    assert picture(origin.databases, database).schema == origin.expected.schema
    assert run_cli(origin.env(database), "plan", "--check").code == 0


def test_all_that_the_table_wears_goes_along(origin: Origin) -> None:
    """Columns, checks, indexes, options, statistics, rights and comments of the user's own are as in place."""
    database = origin.copy()
    with origin.databases.connect(database) as owner:
        owner.execute(f"CREATE INDEX own_clustered ON {TABLE} (start_time)".encode())
        roles = {"server": sql.Identifier(origin.databases.server_user), "owner": sql.Identifier(origin.databases.user)}
        owner.execute(sql.SQL(WORN).format(**roles))
    in_place = copy(origin.databases, database)
    ended = finish(origin.migrate(in_place, "--rewrite", "in-place"))
    assert ended.code == 0, ended.stderr
    ended = origin.run(database)
    assert ended.code == 0, ended.stderr
    assert "online.cut_over" in [event["event"] for event in events(ended)]
    assert differences(picture(origin.databases, database), picture(origin.databases, in_place)) == []
    assert rows(origin.databases, database) == rows(origin.databases, in_place)


def test_its_statistics_and_its_visibility_map_are_fresh(origin: Origin) -> None:
    """The new table was vacuumed and analysed before anybody saw it, so that plans are as good as before."""
    database = origin.copy()
    assert origin.run(database).code == 0
    with origin.databases.connect(database) as owner:
        analysed = one(owner, f"SELECT count(DISTINCT attname) FROM pg_stats WHERE tablename = '{TABLE}'")
        columns = one(owner, f"SELECT count(*) FROM pg_attribute WHERE attrelid = '{TABLE}'::regclass AND attnum > 0")
        seen = f"SELECT relallvisible = relpages AND relpages > 0 FROM pg_class WHERE oid = '{TABLE}'::regclass"
        assert (analysed, one(owner, seen)) == (columns, True)


def test_a_column_that_was_dropped_and_added_again(older: Origin) -> None:
    """Its values are gone as the vendor's way takes them, those of all others stay (visibility 1.6)."""
    database, by_vendor = older.copy(), older.copy()
    with older.databases.connect(database) as owner:
        assert one(owner, f"SELECT count(root_run_id) FROM {TABLE}") == ROWS
    VendorTool(version="1.32.2", databases=older.databases).update("visibility", database=by_vendor)
    ended = older.run(database)
    assert "online.cut_over" in [event["event"] for event in events(ended)], ended.stderr
    assert rows(older.databases, database) == rows(older.databases, by_vendor)


def test_writers_with_triggers_off_are_heard(origin: Origin) -> None:
    """A writer in the role of a replica fires no ordinary trigger; what it writes meanwhile is there at the end."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, origin.held(database) as held:
        admin.execute("SET session_replication_role = replica")
        admin.execute(A_WRITE.encode())
        admin.execute(A_DELETE.encode())
        ended = held.release()
        assert ended.code == 0, ended.stderr
        assert (one(admin, WRITTEN), one(admin, COUNT)) == (1, ROWS - 1)
    assert_at_target(origin, database)


def test_writers_may_have_no_right_to_what_is_ours(origin: Origin) -> None:
    """Temporal's role reaches neither schema nor function of the log, and its writes go on and count."""
    database = origin.copy()
    with origin.databases.connect_server(database) as server, origin.held(database) as held:
        (schema,) = names(server, SCHEMAS)
        assert one(server, f"SELECT has_schema_privilege('{schema}', 'USAGE')") is False
        server.execute("SET search_path = pg_temp, public")
        server.execute(A_WRITE.encode())
        assert held.release().code == 0
        assert one(server, WRITTEN) == 1


def test_a_reader_with_an_old_snapshot_is_waited_for(origin: Origin) -> None:
    """A transaction older than the copied rows would see none of them: the swap is put off, and it is named."""
    database = origin.copy()
    with origin.databases.connect(database) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT FROM schema_version")
        waiting = origin.run(database, SCHEMA_MIGRATOR_WAIT_TIMEOUT="2")
        assert waiting.code == 1
        assert waiting.stderr.splitlines()[-1] == (
            f'error: visibility: transactions are older than the copied rows of "{TABLE}" and would not see them: '
            f"pid {reader.info.backend_pid} (unnamed); "
            "end them or wait for them, then run it again: it resumes; or migrate --abandon"
        )
        assert one(reader, COUNT) == ROWS
        process = origin.migrate(database, *rewriting.ONLINE)
        assert await_event(process, "online.resumed")["rows"] == ROWS
        reader.execute("COMMIT")
        ended = finish(process)
        assert ended.code == 0, ended.stderr
        assert one(reader, COUNT) == ROWS
    assert_at_target(origin, database)


def test_a_reader_who_imports_an_old_snapshot_is_waited_for(origin: Origin) -> None:
    """Its transaction is young, and sees as little as the one that exported the snapshot."""
    database = origin.copy()
    with origin.databases.connect(database) as old, origin.databases.connect(database) as young:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        ((snapshot,),) = old.execute("SELECT pg_export_snapshot()").fetchall()
        process = origin.migrate(database, *rewriting.ONLINE, SCHEMA_MIGRATOR_HEARTBEAT="1")
        await_event(process, "online.waiting_for_snapshots")
        young.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        young.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'".encode())
        old.execute("COMMIT")
        waiting = await_event(process, "online.waiting_for_snapshots")
        while f"pid {old.info.backend_pid} " in waiting["sessions"]:
            waiting = await_event(process, "online.waiting_for_snapshots")
        assert waiting["sessions"] == f"pid {young.info.backend_pid} (unnamed)"
        assert one(young, COUNT) == ROWS
        young.execute("COMMIT")
        ended = finish(process)
    assert ended.code == 0, ended.stderr


def test_a_reader_without_a_snapshot_holds_nothing_up(origin: Origin) -> None:
    """A transaction that is only open, as a pool leaves them, would see the rows: nobody waits for it."""
    database = origin.copy()
    with origin.databases.connect(database) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT FROM schema_version")
        ended = origin.run(database, SCHEMA_MIGRATOR_WAIT_TIMEOUT="5")
        assert ended.code == 0, ended.stderr
        assert one(reader, COUNT) == ROWS


def unfinished(origin: Origin) -> str:
    """Return a copy where a run was killed as all was copied."""
    database = origin.copy()
    with origin.held(database) as held:
        held.kill()
    return database


MEDDLING = {
    "truncated": f"TRUNCATE {TABLE}",
    "a column more": f"ALTER TABLE {TABLE} ADD COLUMN own int",
    "an index more": f"CREATE INDEX own ON {TABLE} (run_id)",
    "a comment": f"COMMENT ON COLUMN {TABLE}.memo IS 'meanwhile'",
    "another storage": f"ALTER TABLE {TABLE} ALTER memo SET STORAGE EXTERNAL",
    "another right": f"GRANT SELECT ON {TABLE} TO PUBLIC",
    "log switched off": f"ALTER TABLE {TABLE} DISABLE TRIGGER schema_migrator_log",
    "log off and on": f"ALTER TABLE {TABLE} DISABLE TRIGGER schema_migrator_log;"
    f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER schema_migrator_log",
    "log dropped": f"DROP TRIGGER schema_migrator_log ON {TABLE}",
}


@pytest.mark.parametrize("meddling", MEDDLING.values(), ids=MEDDLING)
def test_a_table_that_changes_meanwhile_is_left_as_it_is(origin: Origin, meddling: str) -> None:
    """Truncated, altered, or its log off: all that is ours goes, the table stays, and the next run succeeds."""
    database = origin.copy()
    said, left = meddled_with(origin, database, meddling)
    assert said == (
        f'error: visibility: the table "{TABLE}" was truncated or altered during the rewrite; '
        "run it again: it starts over from the current table"
    )
    with origin.databases.connect(database) as owner:
        assert one(owner, "SELECT curr_version FROM schema_version") == BEGUN
        assert origin.run(database).code == 0
        assert one(owner, COUNT) == left


@pytest.mark.parametrize("change", ["DROP COLUMN own", "RENAME COLUMN own TO other", "ALTER COLUMN own TYPE bigint"])
def test_a_column_that_goes_meanwhile(origin: Origin, change: str) -> None:
    """A statement of ours that meets this is refused by PostgreSQL; what is said is what is behind that."""
    database = origin.copy()
    with origin.databases.connect(database) as owner:
        owner.execute(f"ALTER TABLE {TABLE} ADD COLUMN own int DEFAULT 1".encode())
        said, _ = meddled_with(origin, database, f"ALTER TABLE {TABLE} {change}")
        assert f'the table "{TABLE}" was truncated or altered during the rewrite' in said
        assert origin.run(database).code == 0
        assert one(owner, COUNT) == ROWS


AWAY = {
    "renamed": (f"ALTER TABLE {TABLE} RENAME TO away", f"ALTER TABLE away RENAME TO {TABLE}"),
    "in another schema": (
        f"CREATE SCHEMA other; ALTER TABLE {TABLE} SET SCHEMA other",
        f"ALTER TABLE other.{TABLE} SET SCHEMA public",
    ),
}


@pytest.mark.parametrize("where", AWAY)
def test_a_table_that_goes_meanwhile(origin: Origin, where: str) -> None:
    """Its trigger goes along and is removed from it; when the table is back, another run succeeds."""
    away, back = AWAY[where]
    database = origin.copy()
    with origin.held(database) as held:
        held.holder.execute(away.encode())
        ended = held.release()
    assert ended.code == 1, ended.stderr
    with origin.databases.connect(database) as owner:
        assert (names(owner, SCHEMAS), names(owner, TRIGGERS)) == ([], [])
        owner.execute(back.encode())
        assert origin.run(database).code == 0
        assert one(owner, COUNT) == ROWS


def meddled_with(origin: Origin, database: str, statement: str) -> tuple[str, object]:
    """Let the owner change the table before a run swaps it; return the run's last words, and how many rows there were.

    The run ends with 1, the table stays as it then is, and nothing of ours does.
    """
    with origin.held(database) as held:
        held.holder.execute(statement.encode())
        left = one(held.holder, COUNT)
        ended = held.release()
    assert ended.code == 1
    with origin.databases.connect(database) as owner:
        assert (names(owner, SCHEMAS), names(owner, TRIGGERS), one(owner, COUNT)) == ([], [], left)
    return ended.stderr.splitlines()[-1], left


def test_a_table_that_is_emptied_before_the_comparison(origin: Origin) -> None:
    """That is no error of the copy: all that is ours goes, the table stays empty, and another run succeeds."""
    database = unfinished(origin)
    with origin.databases.connect(database) as owner, origin.databases.connect(database) as other:
        (schema,) = names(owner, SCHEMAS)
        other.execute("BEGIN")  # what keeps the new table from being vacuumed, which comes before
        other.execute(f"LOCK TABLE {schema}.schema_migrator_shadow IN SHARE UPDATE EXCLUSIVE MODE".encode())
        process = origin.migrate(database, *rewriting.ONLINE)
        await_event(process, "online.indexed")
        owner.execute(f"TRUNCATE {TABLE}".encode())
        other.execute("COMMIT")
        ended = finish(process)
        assert (ended.code, "truncated or altered during the rewrite" in ended.stderr) == (1, True)
        assert (names(owner, SCHEMAS), names(owner, TRIGGERS), one(owner, COUNT)) == ([], [], 0)
        assert origin.run(database).code == 0


WAITS = f"SELECT FROM pg_locks WHERE relation = '{TABLE}'::regclass AND NOT granted"


def test_a_long_log_is_not_replayed_under_the_lock(origin: Origin) -> None:
    """Much that is committed while the swap waits for its lock sends it back: nobody waits while that is replayed."""
    database = origin.copy()
    with origin.databases.connect_server(database) as server, origin.databases.admin(database) as admin:
        with origin.held(database) as held:
            server.execute("BEGIN")
            for _ in range(2 + 2000 // ROWS):
                server.execute(f"UPDATE {TABLE} SET task_queue = 'meanwhile'".encode())
            held.holder.execute("COMMIT")
            while admin.execute(WAITS.encode()).fetchone() is None:
                time.sleep(0.005)
            committed = datetime.now(UTC).isoformat()
            server.execute("COMMIT")
            ended = finish(held.process)
        assert ended.code == 0, ended.stderr
        assert [
            event for event in events(ended) if event["event"] == "table.busy" and str(event["timestamp"]) > committed
        ]
        assert one(admin, WRITTEN) == ROWS


def test_nobody_else_reaches_what_is_ours(origin: Origin) -> None:
    """Not the table's owner either, nor whom default privileges let: who could put a trigger there had our rights."""
    database, engine = origin.copy(), origin.databases.engine
    superuser = {"SQL_USER": engine.user, "SQL_PASSWORD": engine.password or "unused"}
    with origin.databases.admin(database) as admin, origin.databases.connect(database) as owner:
        for kind in ("TABLES", "SCHEMAS", "FUNCTIONS", "SEQUENCES"):
            grant = f'ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO "{origin.databases.user}"'
            admin.execute(grant.encode())
        with origin.held(database, **superuser) as held:
            (schema,) = names(admin, SCHEMAS)
            function = "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            for statement in (
                f"CREATE TRIGGER own BEFORE UPDATE ON {schema}.schema_migrator_shadow FOR EACH ROW {function}",
                f"CREATE TRIGGER own BEFORE UPDATE ON {schema}.log FOR EACH ROW {function}",
                f"DELETE FROM {schema}.log",
                f"CREATE TABLE {schema}.own (number int)",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    owner.execute(statement.encode())
            ended = held.release()
        assert ended.code == 0, ended.stderr
        admin.execute(f'ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM "{origin.databases.user}"'.encode())


def test_what_is_left_of_a_store_that_is_not_seen(origin: Origin) -> None:
    """Without a right to the store's schema nothing is removed, and that is said."""
    database = unfinished(origin)
    with origin.databases.admin(database) as admin:
        (schema,) = names(admin, SCHEMAS)
        ended = run_cli(
            origin.env(database) | {"SQL_CONNECT_ATTRIBUTES": "search_path=nowhere"}, "migrate", "--abandon"
        )
        assert (ended.code, schema in ended.stderr) == (12, True), ended.stderr
        assert run_cli(origin.env(database), "migrate", "--abandon").code == 0
        assert names(admin, SCHEMAS) == []


def test_a_key_that_changes_to_an_equal_one(origin: Origin) -> None:
    """Under a collation that tells no case from another: the row's key is taken along as it was written last."""
    database = origin.copy()
    collation = "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    with origin.databases.connect(database) as owner:
        try:
            owner.execute(f"CREATE COLLATION own {collation}".encode())
        except errors.FeatureNotSupported:
            return  # a server built without ICU has no such collation
        owner.execute(f"ALTER TABLE {TABLE} ALTER run_id TYPE char(64) COLLATE own".encode())
        with origin.held(database) as held:
            held.holder.execute(f"UPDATE {TABLE} SET run_id = upper(run_id)".encode())
            ended = held.release()
        assert ended.code == 0, ended.stderr
        lower = f'SELECT count(*) FROM {TABLE} WHERE run_id::text COLLATE "C" <> upper(run_id)'
        assert one(owner, lower) == 0
        assert one(owner, COUNT) == ROWS


FORBIDDEN = {
    "publication": f"CREATE PUBLICATION own FOR TABLE {TABLE}",
    "rule": f"CREATE RULE own AS ON DELETE TO {TABLE} WHERE false DO ALSO NOTHING",
    "view": f"CREATE VIEW own AS SELECT memo FROM {TABLE}",
    "foreign key": f"CREATE TABLE own (n bpchar, r bpchar, CONSTRAINT own FOREIGN KEY (n, r) REFERENCES {TABLE})",
}


UNDONE = {
    FORBIDDEN["publication"]: "DROP PUBLICATION own",
    FORBIDDEN["rule"]: f"DROP RULE own ON {TABLE}",
    FORBIDDEN["view"]: "DROP VIEW own",
    FORBIDDEN["foreign key"]: "DROP TABLE own",
}


@pytest.mark.parametrize("made", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_forbids_it_and_comes_meanwhile(origin: Origin, made: str) -> None:
    """It is looked for again under the cutover's lock, since it would stay with the old table.

    Nothing is swapped, and the copy is kept: the refusal says so, and once it is removed the next run resumes.
    """
    database = origin.copy()
    with origin.held(database) as held, origin.databases.admin(database) as admin:
        held.holder.execute(made.encode())
        ended = held.release()
        said = ended.stderr.splitlines()[-1]
        assert (ended.code, "it gained what would have stayed with the old table: " in said, "own" in said) == (
            31,
            True,
            True,
        ), said
        assert f'a trigger on "{TABLE}" still logs changes' in said
        assert "schema-migrator migrate --abandon removes it with the copy" in said
        assert one(admin, COUNT) == ROWS
        assert origin.run(database).code == 31
        admin.execute(UNDONE[made].encode())
        again = origin.run(database)
    assert (again.code, "online.resumed" in again.stderr) == (0, True), again.stderr


HIDDEN = f"""
INSERT INTO {TABLE}
  (namespace_id, run_id, start_time, execution_time, workflow_id, workflow_type_name, status, encoding)
SELECT namespace_id, 'hidden', start_time, execution_time, workflow_id, workflow_type_name, status, encoding
FROM {TABLE} LIMIT 1
"""


@pytest.mark.parametrize(
    "settings", [(), ("enable_seqscan", "enable_tidscan")], ids=["", "by a role that takes indexes"]
)
def test_a_row_that_no_index_leads_to(origin: Origin, settings: tuple[str, ...]) -> None:
    """A damaged primary key hides it from the copy, but not from the comparison: the table stays, with it."""
    database = origin.copy()
    ready = "UPDATE pg_index SET indisready = %s WHERE indrelid = %s::regclass AND indisprimary"
    with origin.databases.admin(database) as admin:
        admin.execute(ready, [False, TABLE])
        admin.execute(HIDDEN.encode())
        admin.execute(ready, [True, TABLE])
        for name in settings:
            admin.execute(
                sql.SQL("ALTER DATABASE {} SET {} = off").format(sql.Identifier(database), sql.Identifier(name))
            )
        ended = origin.run(database)
        assert ended.code == 24
        assert "no entry of the primary key's index points to a row of" in ended.stderr
        assert "run_id = 'hidden' in block " in ended.stderr
        assert "amcheck" in ended.stderr
        assert one(admin, COUNT) == ROWS + 1


def test_a_version_that_moves_meanwhile(origin: Origin) -> None:
    """Another tool records another version: nothing is swapped on top of that, and the next run cleans up."""
    database = origin.copy()
    with origin.held(database) as held:
        held.holder.execute("UPDATE schema_version SET curr_version = '1.13'")
        ended = held.release()
    assert ended.code == 22
    assert ended.stderr.splitlines()[-1] == (
        f'error: visibility: database "{database}" was at {BEGUN}, but is now at 1.13; '
        "another tool is migrating it: wait for that to finish, then run this again; "
        f'a trigger on "{TABLE}" still logs changes (24 kB so far): '
        "schema-migrator migrate --abandon removes it with the copy"
    )
    with origin.databases.connect(database) as owner:
        assert one(owner, COUNT) == ROWS
        owner.execute(f"UPDATE schema_version SET curr_version = '{BEGUN}'".encode())
        assert origin.run(database).code == 0
        assert (names(owner, SCHEMAS), one(owner, COUNT)) == ([], ROWS)


def test_a_killed_run_is_carried_on(origin: Origin) -> None:
    """What was copied is kept, status tells of it, writes meanwhile count, and the next run only does the rest."""
    database = unfinished(origin)
    with origin.databases.connect_server(database) as server:
        server.execute(A_WRITE.encode())
        server.execute(A_DELETE.encode())
        told = run_cli(origin.env(database), "status", "--output", "json")
        (left,) = json.loads(told.stdout)["stores"][0]["online"]
        assert (left["table"], left["target"], left["rows_copied"]) == (TABLE, "1.14", ROWS)
        ended = origin.run(database)
        assert ended.code == 0, ended.stderr
        resumed = [event["rows"] for event in events(ended) if event["event"] == "online.resumed"]
        assert resumed == [ROWS]
        assert (one(server, WRITTEN), one(server, COUNT)) == (1, ROWS - 1)
    assert_at_target(origin, database)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ("DELETE FROM {shadow} WHERE run_id = (SELECT min(run_id) FROM {table})", damage.MISSING),
        ("UPDATE {shadow} SET memo = 'other' WHERE run_id = (SELECT max(run_id) FROM {table})", damage.DIFFERS),
        ("UPDATE {shadow} SET run_id = 'nobody''s' WHERE run_id = (SELECT max(run_id) FROM {table})", damage.MISSING),
        (
            "UPDATE {shadow} SET search_attributes = '{{}}' WHERE run_id = (SELECT max(run_id) FROM {table})",
            damage.DIFFERS,
        ),
        ("INSERT INTO {shadow} (run_id, {rest}) SELECT 'nobody''s', {rest} FROM {shadow} LIMIT 1", damage.SURPLUS),
    ],
    ids=[
        "a row is missing",
        "a value is another",
        "a row has another key",
        "a document is another",
        "a row is too many",
    ],
)
def test_a_copy_that_is_not_the_table_never_takes_its_place(origin: Origin, spoilt: str, said: str) -> None:
    """Every row is compared before the swap: the table is left as it is, and nothing of the copy."""
    database = origin.copy()
    before, kept = picture(origin.databases, database).schema, rows(origin.databases, database)
    with origin.held(database) as held:
        held.kill()
    with origin.databases.connect(database) as owner:
        (schema,) = names(owner, SCHEMAS)
        rest = "namespace_id, encoding, start_time, execution_time, workflow_id, workflow_type_name, status"
        spoil = spoilt.format(shadow=f"{schema}.schema_migrator_shadow", table=TABLE, rest=rest)
        owner.execute(spoil.encode())
        ended = origin.run(database)
        assert ended.code == 24
        assert f"{said.format(json.dumps(TABLE))}, expected an undamaged table" in ended.stderr
        assert (names(owner, SCHEMAS), names(owner, TRIGGERS)) == ([], [])
    assert (picture(origin.databases, database).schema, rows(origin.databases, database)) == (before, kept)
    assert origin.run(database).code == 0


def test_an_unfinished_one_is_abandoned(origin: Origin) -> None:
    """With --abandon every trace goes, nothing else does, and what was written meanwhile stays."""
    database = origin.copy()
    schema = picture(origin.databases, database).schema
    foreign = "schema_migrator_online_7"
    with origin.databases.connect(database) as owner:
        with origin.held(database) as held:
            held.kill()
        owner.execute(A_WRITE.encode())
        owner.execute(f"CREATE SCHEMA {foreign}".encode())
        done = run_cli(origin.env(database), "migrate", "--abandon", "--output", "json")
        assert done.code == 0, done.stderr
        (removed,) = json.loads(done.stdout)["stores"]
        assert len(removed["removed"]) == 1
        assert names(owner, SCHEMAS) == [foreign]
        owner.execute(f"DROP SCHEMA {foreign}".encode())
        assert one(owner, WRITTEN) == 1
    assert picture(origin.databases, database).schema == schema


def test_what_somebody_put_beside_ours_is_not_removed(origin: Origin) -> None:
    """A table of somebody else's in our schema keeps all of it: that is said, and nothing is dropped."""
    database = unfinished(origin)
    with origin.databases.connect(database) as owner:
        (schema,) = names(owner, SCHEMAS)
        owner.execute(f"CREATE TABLE {schema}.mine AS SELECT 1 AS n".encode())
        before = picture(origin.databases, database)
        refused = run_cli(origin.env(database), "migrate", "--abandon")
        assert refused.code == 26
        assert refused.stderr.splitlines()[-1] == (
            f'error: visibility: the schema "{schema}", left by an online rewrite, contains objects that are not ours: '
            f'table {schema}.mine of "{origin.databases.user}"; move that elsewhere, then run this again'
        )
        assert picture(origin.databases, database) == before
        assert origin.run(database).code == 26
        owner.execute(f"DROP TABLE {schema}.mine".encode())
        assert run_cli(origin.env(database), "migrate", "--abandon").code == 0


def test_the_old_table_is_kept_where_that_is_wanted(older: Origin) -> None:
    """With --keep-old it stands in a schema of its own under no name of the vendor's, until --abandon."""
    origin, database = older, older.copy()
    ended = origin.run(database, "--keep-old", VISIBILITY_TARGET_VERSION="1.9")
    assert ended.code == 0, ended.stderr
    with origin.databases.connect(database) as owner:
        (kept,) = names(owner, SCHEMAS)
        assert one(owner, f"SELECT count(*) FROM {kept}.{kept}") == ROWS
        # The vendor's 1.13 looks the table up by its name alone, whatever the schema.
        ended = finish(origin.migrate(database, "--rewrite", "in-place"))
        assert ended.code == 0, ended.stderr
        assert names(owner, SCHEMAS) == [kept]
        assert run_cli(origin.env(database), "verify").code == 0
        assert run_cli(origin.env(database), "migrate", "--abandon").code == 0
        assert names(owner, SCHEMAS) == []
    assert_at_target(origin, database)


def test_a_large_table_goes_online_by_itself(origin: Origin) -> None:
    """Without --rewrite a small table is written in place; nothing is said."""
    database = origin.copy()
    ended = finish(origin.migrate(database))
    assert ended.code == 0, ended.stderr
    assert not [event for event in events(ended) if str(event["event"]).startswith("online.")]


def test_two_runs_at_once(origin: Origin) -> None:
    """The second waits for the first, and finds nothing to do."""
    database = origin.copy()
    with origin.held(database) as held:
        second = origin.migrate(database, *rewriting.ONLINE)
        time.sleep(1)
        assert second.poll() is None
        assert held.release().code == 0
        ended = finish(second)
    assert ended.code == 0, ended.stderr
    assert_at_target(origin, database)


def test_half_applied_by_the_vendor(older: Origin) -> None:
    """A step that the vendor's tool had begun is carried on online from where it stands, and no value is lost."""
    database, by_vendor = older.copy(), older.copy()
    tool = VendorTool(version="1.32.2", databases=older.databases)
    for name in (database, by_vendor):
        tool.update("visibility", "1.7", database=name)
    with older.databases.connect(database) as owner:
        step = next(step for step in files("visibility").steps if str(step.version) == "1.8")
        for statement in step.statements[:2]:
            owner.execute(statement.text.encode())
    tool.update("visibility", database=by_vendor)
    ended = older.run(database)
    assert "online.cut_over" in [event["event"] for event in events(ended)], ended.stderr
    assert_at_target(older, database)
    assert rows(older.databases, database) == rows(older.databases, by_vendor)

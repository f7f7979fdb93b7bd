"""What `plan` foretells of a table with rows, that foretelling leaves no trace, and the limit that is set by it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schema_migrator.commands.preview import PlanPreview
from schema_migrator.errors import LockTooLong, MigratorError, VersionMoved
from schema_migrator.estimation import trials
from schema_migrator.estimation.trials import BOUND_SECONDS
from schema_migrator.online import cutover, prechecks
from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.program.command import finish, start_cli
from support.program.store_driver import Site, site
from support.waiting import await_none

ROWS = 4000
FILL = f"""
INSERT INTO executions_visibility (namespace_id, run_id, start_time, execution_time, workflow_id,
  workflow_type_name, status, encoding, memo, search_attributes)
SELECT repeat('n', 64), lpad(n::text, 64, '0'), now(), now(), 'workflow ' || n, 'type', 1, 'json', NULL,
  jsonb_build_object('Keyword01', 'k' || n % 100, 'Int01', n, 'BuildIds', jsonb_build_array('a', n % 7))
FROM generate_series(1, {ROWS}) n
"""
SLOW = """
CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql SET search_path = pg_catalog
AS $$ BEGIN PERFORM pg_sleep(0.0005); RETURN $1; END $$
"""
SLOW_INDEX = "CREATE INDEX my_own ON executions_visibility (slow(run_id))"
IN_PLACE = {"SCHEMA_MIGRATOR_REWRITE": "in-place"}
OURS = """
SELECT query FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'schema-migrator/%'
"""
LOCKS_IN_A_TRIAL = """
SELECT DISTINCT l.mode FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE a.application_name LIKE 'schema-migrator/%' AND l.relation = 'executions_visibility'::regclass
  AND a.query LIKE 'ALTER TABLE %'
"""
TRACES = """
SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_namespace),
  (SELECT count(*) FROM pg_locks WHERE relation = 'executions_visibility'::regclass),
  pg_relation_filenode('executions_visibility')
"""


@pytest.fixture
def used(databases: Databases) -> Site:
    """Give a visibility store of 1.9 with rows and without statistics."""
    made = site(databases, "visibility", **IN_PLACE).install("1.9")
    made.run("ALTER TABLE executions_visibility SET (autovacuum_enabled = off)", FILL)
    return made


@contextmanager
def open_transaction(used: Site, statement: str) -> Iterator[Connection]:
    """Keep a transaction open that has run a statement."""
    with used.connect() as connection, connection.transaction():
        connection.execute(statement.encode())
        yield connection


def reasons(seen: PlanPreview) -> set[str]:
    """Return why steps have no estimate."""
    return set(seen.forecast.unmeasured.values())


def test_a_table_whose_blocks_are_empty(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of it has no row, from which nothing can be extrapolated: the steps are unmeasured."""
    monkeypatch.setattr(trials, "_MOST_BYTES", ROWS // 4)
    used.run(f"DELETE FROM executions_visibility WHERE workflow_id <> 'workflow {ROWS}'")
    said = 'the sample of "executions_visibility" has no row, because most of its blocks are empty'
    assert reasons(used.foresee()) == {said}


def test_foretells_from_a_sample_and_leaves_no_trace(used: Site) -> None:
    """Steps that rewrite have an estimate from some of the rows; afterwards everything is as before."""
    with used.connect() as connection:
        before = connection.execute(TRACES).fetchone()
        seen = used.foresee()
        assert connection.execute(TRACES).fetchone() == before
    (size,) = seen.forecast.sizes
    assert size.rows == ROWS
    assert 0 < seen.forecast.sampled["executions_visibility"] <= ROWS
    assert seen.forecast.written > size.heap / 2
    assert reasons(seen) == set()
    assert seen.forecast.spent < BOUND_SECONDS
    by_version = {str(version): one for version, one in seen.forecast.steps.items()}
    for version in ("1.13", "1.14"):
        found = by_version[version]
        assert 0 < found.locked.low < found.locked.likely <= found.seconds.likely
        assert size.total / 10 < found.disk < size.total * 2
    assert by_version["1.10"].locked.likely == 0


def test_no_measure(used: Site) -> None:
    """Steps on large tables have no estimate; with a limit on their locks they are refused."""
    seen = used.foresee(SCHEMA_MIGRATOR_NO_MEASURE="true")
    assert (reasons(seen), seen.forecast.written) == ({"--no-measure"}, 0)
    assert {str(version) for version in seen.forecast.unmeasured} >= {"1.13", "1.14"}
    refusal = used.refused(SCHEMA_MIGRATOR_NO_MEASURE="true", SCHEMA_MIGRATOR_MAX_LOCK_SECONDS="600")
    assert (type(refusal), "--no-measure" in refusal.message) == (LockTooLong, True)


def test_foretells_about_what_comes(used: Site) -> None:
    """With a slow index of the user's own, which is built in the trial too, steps take what was foretold."""
    used.run(SLOW, SLOW_INDEX)
    before = used.picture()
    seen = used.foresee()
    assert used.picture() == before
    assert seen.forecast.left_out == ()
    done = used.migrate()
    for outcome in done.outcomes:
        span = seen.forecast.steps[outcome.version].seconds
        assert span.low <= outcome.seconds <= max(span.high, 1.0), (outcome, span)


def test_refuses_a_long_lock_before_the_first_change(databases: Databases, used: Site) -> None:
    """With a limit neither store is touched; with a higher one, or rows that are few, both are migrated."""
    used.run(SLOW, SLOW_INDEX)
    other = site(databases, "default").install("1.18", "1.29.1")
    before = other.picture()
    both = {"SCHEMA_MIGRATOR_STORES": "default,visibility", "SCHEMA_MIGRATOR_MAX_LOCK_SECONDS": "2"}
    refusal = used.refused(**both)
    assert isinstance(refusal, LockTooLong)
    assert refusal.exit_code == 30
    said, _, rest = str(refusal).partition(" for about ")
    assert said == "visibility: step 1.13 would lock executions_visibility"
    assert (
        rest.partition(" s, at worst ")[2].partition(" s, ")[2]
        == "the limit is 2 s; rewrite it online (--rewrite online), or raise --max-lock-seconds"
    )
    assert other.picture() == before
    used.run("TRUNCATE executions_visibility")
    assert [str(one.version) for one in used.migrate(SCHEMA_MIGRATOR_MAX_LOCK_SECONDS="1").outcomes][-1] == "1.14"


def test_refuses_what_it_cannot_foretell(used: Site) -> None:
    """Rows that may not be read give no estimate: `plan` says why, and a limit refuses."""
    used.run(f'REVOKE SELECT ON executions_visibility FROM "{used.databases.user}"')
    assert reasons(used.foresee()) == {"permission denied for table executions_visibility"}
    assert str(used.refused(SCHEMA_MIGRATOR_MAX_LOCK_SECONDS="1000")) == (
        "visibility: it cannot be estimated how long step 1.13 would lock executions_visibility"
        " (permission denied for table executions_visibility), the limit is 1000 s;"
        " rewrite it online (--rewrite online), or raise --max-lock-seconds"
    )


def test_refuses_without_a_rehearsal(used: Site) -> None:
    """A role that may not rehearse cannot foretell either, and a limit refuses."""
    used.admin(
        f'ALTER DATABASE "{used.name}" OWNER TO CURRENT_USER',
        f'GRANT USAGE, CREATE ON SCHEMA public TO "{used.databases.user}"',
    )
    try:
        limit = {"SCHEMA_MIGRATOR_NO_VERIFY": "true", "SCHEMA_MIGRATOR_MAX_LOCK_SECONDS": "1000"}
        assert str(used.refused(**limit)) == (
            "visibility: it cannot be estimated how long step 1.10 would lock its tables (without a"
            " rehearsal it is unknown which tables it works on), the limit is 1000 s; see schema-migrator plan,"
            " or raise"
            " --max-lock-seconds"
        )
    finally:
        used.admin(f'ALTER DATABASE "{used.name}" OWNER TO "{used.databases.user}"')


def test_names_who_would_hold_a_step_up(used: Site) -> None:
    """A transaction that has written to the table is told with its process, its application and its age."""
    with open_transaction(used, "UPDATE executions_visibility SET status = 2 WHERE status = 99") as connection:
        connection.execute("SET application_name = 'a server'")
        seen = used.foresee()
        (holder,) = {(one.pid, one.who) for one in seen.forecast.holders}
        assert holder == (connection.info.backend_pid, "a server")
    assert all(one.seconds is not None and one.seconds > 0 for one in seen.forecast.holders)


def test_foretells_where_rows_are_hidden(used: Site) -> None:
    """Rows that a policy hides would make an estimate too low: there is none."""
    used.run(
        "ALTER TABLE executions_visibility ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE executions_visibility FORCE ROW LEVEL SECURITY",
    )
    assert reasons(used.foresee()) == {
        'query would be affected by row-level security policy for table "executions_visibility"'
    }


def test_foretells_an_online_rewrite(used: Site) -> None:
    """It is written once, its steps have no locks of their own, and only its swap counts for the limit."""
    used.run(SLOW, SLOW_INDEX)
    online = {"SCHEMA_MIGRATOR_REWRITE": "online", "SCHEMA_MIGRATOR_MAX_LOCK_SECONDS": "1"}
    seen = used.foresee(**online)
    assert {str(version) for version in seen.forecast.steps} == {"1.10", "1.11", "1.12"}  # they change nothing
    assert seen.forecast.online is not None
    assert seen.forecast.online.seconds.likely > 1
    assert seen.forecast.online.locked.high == 1
    assert (seen.refusal, seen.obstacle) == ("", "")
    assert [str(one.version) for one in used.migrate(**online).outcomes][-1] == "1.14"


def test_foretells_what_becomes_of_an_unfinished_rewrite(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is carried on with; after the table was altered it is removed."""
    online = {"SCHEMA_MIGRATOR_REWRITE": "online"}
    monkeypatch.setattr(cutover, "cut_over", stopped)
    with pytest.raises(VersionMoved):
        used.migrate(**online)
    (begun,) = used.foresee(**online).begun
    assert (begun.copied, begun.continues) == (ROWS, True)
    used.run("ALTER TABLE executions_visibility ADD COLUMN mine int")
    (begun,) = used.foresee(**online).begun
    assert (begun.copied, begun.continues) == (ROWS, False)


def stopped(*_: object) -> float:
    """Fail as when the table's lock cannot be had, but for good."""
    raise VersionMoved("stopped", hint="")


def test_foretells_what_keeps_a_rewrite_from_beginning(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is too old is named before anything is begun."""
    monkeypatch.setattr(prechecks, "OLD_SECONDS", 0)
    with open_transaction(used, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ") as connection:
        connection.execute("SELECT 1")
        seen = used.foresee(SCHEMA_MIGRATOR_REWRITE="online")
        assert f"pid {connection.info.backend_pid} (" in seen.obstacle
        assert '"executions_visibility" cannot be cut over until it ends' in seen.obstacle


def test_a_partitioned_table_is_refused(used: Site) -> None:
    """Its rows are elsewhere and its indexes cannot be built side by side: `plan` refuses."""
    used.run(
        "ALTER TABLE executions_visibility RENAME TO part",
        "CREATE TABLE executions_visibility (LIKE part INCLUDING DEFAULTS INCLUDING GENERATED)"
        " PARTITION BY LIST (namespace_id)",
        "ALTER TABLE executions_visibility ATTACH PARTITION part DEFAULT",
    )
    with pytest.raises(MigratorError):
        used.foresee()


def test_a_killed_plan_leaves_nothing(used: Site) -> None:
    """Its transaction ends with its connection, in the middle of a trial; the live table was only read."""
    used.run(SLOW, SLOW_INDEX)
    with used.connect() as connection:
        before = connection.execute(TRACES).fetchone()
        ours = start_cli({**used.databases.env(), **used.variables}, "plan")
        while not (locks := connection.execute(LOCKS_IN_A_TRIAL).fetchall()):
            assert ours.poll() is None
            time.sleep(0.01)
        assert locks == [("AccessShareLock",)]
        ours.kill()
        finish(ours)
        await_none(lambda: connection.execute(OURS).fetchall())
        assert connection.execute(TRACES).fetchone() == before

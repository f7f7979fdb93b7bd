"""Holds our program up in a chosen phase, by functions of the user's own that our statements call."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from support.postgres.engine import Connection
from support.visibility.executions import TABLE
from support.waiting import await_none, await_true

# What waits is in pg_sleep, and what looks whether it may go on is volatile, or it would see one moment alone.
# A computed column is computed for each row that is copied, checked or replayed; an index of an expression also when it
# is built, and when the table is analyzed.
_MAKE = f"""
CREATE SCHEMA own;
CREATE TABLE own.shut (at text);
CREATE FUNCTION own.closed(query text) RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog AS $$
BEGIN
  RETURN EXISTS (SELECT FROM own.shut WHERE position(at in query) > 0);
END $$;
CREATE FUNCTION own.slow(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog AS $$
BEGIN
  IF current_setting('application_name') LIKE 'schema-migrator/%' THEN
    WHILE own.closed(current_query()) LOOP
      PERFORM pg_sleep(0.02);
    END LOOP;
  END IF;
  RETURN given;
END $$;
GRANT USAGE ON SCHEMA own TO PUBLIC;
ALTER TABLE {TABLE} ADD own_slow text GENERATED ALWAYS AS (own.slow(workflow_id)) STORED;
CREATE INDEX own_slow ON {TABLE} (own.slow(workflow_id));
"""
# A rehearsal's tables are empty, those of a measuring are not.
_DDL = f"""
CREATE SCHEMA own;
CREATE TABLE own.shut (at text);
CREATE FUNCTION own.held() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$
  SELECT EXISTS (SELECT FROM own.shut WHERE CASE at
    WHEN 'step' THEN current_setting('application_name') LIKE '% worker %'
    WHEN 'rehearsal' THEN current_setting('application_name') LIKE '% rehearsal'
    ELSE current_setting('application_name') LIKE '% rehearsal' AND EXISTS (
      SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname LIKE '%rehearsal%' AND c.relname = '{TABLE}' AND pg_relation_size(c.oid) > 0)
  END)
$$;
CREATE FUNCTION own.hold() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  WHILE own.held() LOOP
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;
GRANT USAGE ON SCHEMA own TO PUBLIC;
CREATE EVENT TRIGGER own_hold ON ddl_command_start EXECUTE FUNCTION own.hold();
"""
_SLEEPING = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'schema-migrator/%'
  AND wait_event = 'PgSleep'
"""
ACTIVE = """
SELECT pid, query FROM pg_stat_activity WHERE datname = current_database()
  AND application_name LIKE 'schema-migrator/%' AND state <> 'idle'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Where our program is held up; `admin` is the superuser's connection to the database."""

    admin: Connection

    def at(self, text: str) -> None:
        """Hold up, from now on, the statements with that text, and no others."""
        self.admin.execute("DELETE FROM own.shut")
        self.admin.execute("INSERT INTO own.shut VALUES (%s)", [text])

    def open(self) -> None:
        """Let everybody through."""
        self.admin.execute("DELETE FROM own.shut")

    def await_sleeper(self) -> None:
        """Wait until a statement of ours is held up."""
        self.await_rows(_SLEEPING)

    def await_rows(self, query: str) -> None:
        """Wait until a query has rows."""
        await_true(lambda: self.admin.execute(query.encode()).fetchall())

    def await_quiet(self) -> None:
        """Wait until nothing of ours works any more."""
        await_none(lambda: self.admin.execute(ACTIVE.encode()).fetchall())


@contextmanager
def rows_held(admin: Connection) -> Iterator[Hold]:
    """Make the column and the index that wait; the block chooses where."""
    admin.execute(_MAKE.encode())
    yield Hold(admin=admin)


@contextmanager
def ddl_held(admin: Connection, phase: str) -> Iterator[Hold]:
    """Hold up, in the block, every DDL statement of ours in a phase: rehearsal, measuring or step."""
    admin.execute(_DDL.encode())
    hold = Hold(admin=admin)
    hold.at(phase)
    try:
        yield hold
    finally:
        admin.execute("DROP EVENT TRIGGER own_hold")
        admin.execute("DROP SCHEMA own CASCADE")

"""Stops our program at a chosen statement, for as long as a test likes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.waiting import await_one

# The function is its owner's, who may read the table; a worker that waits is in pg_sleep.
SHUT = """
CREATE SCHEMA gate;
CREATE TABLE gate.shut AS SELECT true AS shut;
CREATE FUNCTION gate.hold() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF current_setting('application_name') LIKE 'schema-migrator/% worker %'
    AND position({at} in current_query()) > 0
  THEN
    WHILE EXISTS (SELECT FROM gate.shut) LOOP
      PERFORM pg_sleep(0.05);
    END LOOP;
  END IF;
END $$;
GRANT USAGE ON SCHEMA gate TO PUBLIC;
CREATE EVENT TRIGGER gate ON ddl_command_start EXECUTE FUNCTION gate.hold();
"""
OURS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'schema-migrator/%'
"""
HELD = f"{OURS} AND wait_event = 'PgSleep'"
ADVISORY = """
SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate before one statement; `admin` is the superuser's connection to the database."""

    admin: Connection

    def await_arrival(self) -> int:
        """Wait until a worker stands before the gate; return its backend's pid."""
        return await_one(lambda: pids(self.admin, HELD))

    def open(self) -> None:
        """Let everybody through, whoever waits too."""
        self.admin.execute("DELETE FROM gate.shut")

    def lift(self) -> None:
        """Let everybody through but those who wait already."""
        self.admin.execute("DROP EVENT TRIGGER IF EXISTS gate")


@contextmanager
def gate(databases: Databases, store: str, at: str) -> Iterator[Gate]:
    """Keep workers of ours waiting before the DDL statement that contains that text."""
    with databases.admin(databases.name(store)) as admin:
        admin.execute(sql.SQL(SHUT).format(at=sql.Literal(at)))
        try:
            yield Gate(admin=admin)
        finally:
            admin.execute("DROP SCHEMA gate CASCADE")


def pids(connection: Connection, query: str) -> list[int]:
    """Return the backends' pids that one of this module's queries finds."""
    return [pid for (pid,) in connection.execute(query).fetchall()]

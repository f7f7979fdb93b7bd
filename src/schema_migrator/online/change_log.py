"""The change log of an online rewrite: a trigger on the live table logs the key of each row that changes.

The log is read in `replay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator.catalog.leftovers import CONTROL, REPLAYED, TRIGGER
from schema_migrator.online import control
from schema_migrator.online.source_table import column_list, identifiers

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.postgres.connection import Connection


# Every change of the trigger gives its catalog row a new xmin, even if the change is undone later. The function, which
# one transaction created with the trigger, still has the first one.
_WATCHED = """
SELECT g.tgenabled = 'A' AND g.xmin = p.xmin FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE g.tgrelid = %s AND g.tgname = %s AND n.nspname = %s
"""
# SECURITY DEFINER and a fixed search_path: the Temporal server's role has no rights here, but its writes must succeed.
_LOG = """
CREATE FUNCTION {ours}.log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS {body}
"""
# An event trigger may have given the table to another role, or have enabled row level security, which hides rows.
_OURS: LiteralString = """
ALTER TABLE {} OWNER TO CURRENT_USER, DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY
"""
_LOG_BODY = """
BEGIN
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND ({new}) IS DISTINCT FROM ({old})) THEN
    INSERT INTO {ours}.log ({key}, schema_migrator_stays) VALUES ({old}, false);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO {ours}.log ({key}, schema_migrator_stays) VALUES ({new}, true);
  END IF;
  RETURN NULL;
END
"""


def watched(conn: Connection, live: SourceTable) -> bool:
    """Return whether the trigger that logs changes exists, is ours, is enabled, and has never been disabled."""
    row = conn.execute(_WATCHED, [live.oid, TRIGGER, live.ours]).fetchone()
    return row is not None and bool(row[0])


def continues(conn: Connection, live: SourceTable, found: Leftover) -> bool:
    """Return whether an earlier run's rewrite can be resumed: its table is unaltered, and every change was logged."""
    return (found.name, found.fingerprint) == (live.ours, live.fingerprint) and watched(conn, live)


def build(conn: Connection, live: SourceTable) -> None:
    """Create the change log, the list of batches, the control row and the trigger's function, in our schema."""
    ours = sql.Identifier(live.ours)
    # VACUUM locks a table to truncate its empty end, which would block every writer of the live table.
    make_log = sql.SQL(
        "CREATE TABLE {ours}.log WITH (vacuum_truncate = false) AS SELECT {key} FROM {live} WITH NO DATA"
    )
    conn.execute(make_log.format(**identifiers(live)))
    turn = (
        "ALTER TABLE {}.log ADD COLUMN schema_migrator_turn bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " ADD COLUMN schema_migrator_stays boolean NOT NULL"
    )
    conn.execute(sql.SQL(turn).format(ours))
    batches = "CREATE TABLE {}.batches (number int PRIMARY KEY, after text[], upto text[], rows bigint)"
    conn.execute(sql.SQL(batches).format(ours))
    prepare_hold(conn, live)
    for table in ("log", "batches", CONTROL, REPLAYED):
        conn.execute(sql.SQL(_OURS).format(sql.Identifier(live.ours, table)))
    conn.execute(_log_function(conn, live))


def prepare_hold(conn: Connection, live: SourceTable) -> None:
    """Create what holding the cutover needs, unless it is there; in our schema, which exists."""
    replayed = "CREATE TABLE IF NOT EXISTS {} AS SELECT {key} FROM {live} WITH NO DATA"
    conn.execute(sql.SQL(replayed).format(sql.Identifier(live.ours, REPLAYED), **identifiers(live)))
    control.build(conn, live.ours)


def watch(conn: Connection, live: SourceTable) -> None:
    """Create the trigger: from now on every change of the live table is logged, in any session_replication_role."""
    source, trigger = sql.Identifier(live.schema, live.table), sql.Identifier(TRIGGER)
    create = "CREATE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {}.log()"
    conn.execute(sql.SQL(create).format(trigger, source, sql.Identifier(live.ours)))
    conn.execute(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(source, trigger))


def try_log(conn: Connection, live: SourceTable) -> None:
    """Log one key and undo that, in the open transaction, to detect what an event trigger has done to the change log.

    If logging failed in the trigger instead, every write to the live table would fail too. Raises psycopg.Error.
    """
    log = "INSERT INTO {ours}.log ({key}, schema_migrator_stays) SELECT {key}, true FROM {live} LIMIT 1"
    conn.execute("SAVEPOINT schema_migrator_log")
    conn.execute(sql.SQL(log).format(**identifiers(live)))
    conn.execute(sql.SQL("INSERT INTO {ours}.batches VALUES (-1, NULL, NULL, NULL)").format(**identifiers(live)))
    conn.execute("ROLLBACK TO SAVEPOINT schema_migrator_log")
    conn.execute("RELEASE SAVEPOINT schema_migrator_log")


def _log_function(conn: Connection, live: SourceTable) -> sql.Composed:
    old, new = column_list(live.key_names, "OLD"), column_list(live.key_names, "NEW")
    body = sql.SQL(_LOG_BODY).format(**identifiers(live), old=old, new=new)
    return sql.SQL(_LOG).format(**identifiers(live), body=sql.Literal(body.as_string(conn)))

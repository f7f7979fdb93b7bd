"""What changed meanwhile: the logged keys' rows are taken from the live table as they are now.

One statement takes keys from the log and their rows from the live table, under one snapshot: a change that is
logged is one that it sees, and one that it does not see is logged and comes later. So the order does not matter.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator import database, logs
from schema_migrator.errors import TableLockTimeout
from schema_migrator.shadow import listed, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.crew import Crew
    from schema_migrator.database import Connection
    from schema_migrator.shadow import Live

LITTLE = 100
"""Keys that may be left for the swap: some tens of milliseconds."""
_MANY = 2000
_REPLAY: LiteralString = """
WITH taken AS (
  DELETE FROM {ours}.log WHERE schema_migrator_turn IN (
    SELECT schema_migrator_turn FROM {ours}.log ORDER BY 1 LIMIT %s)
  RETURNING {key}
), keys AS MATERIALIZED (SELECT DISTINCT {key} FROM taken),
gone AS (
  DELETE FROM {shadow} s USING keys k
  WHERE ({of_s}) = ({of_k}) AND NOT EXISTS (SELECT FROM {live} l WHERE ({of_l}) = ({of_k}))
), put AS (
  INSERT INTO {shadow} ({columns}) SELECT {columns_l} FROM keys k JOIN {live} l ON ({of_l}) = ({of_k})
  ON CONFLICT ({key}) DO {update}
)
SELECT count(*) FROM taken
"""


def statement(live: Live, columns: Sequence[str]) -> sql.Composed:
    """Return the query that replays up to so many log entries, and answers how many it took."""
    values = [name for name in columns if name not in live.key_names]
    assign = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in values)
    return sql.SQL(_REPLAY).format(
        **places(live),
        of_s=listed(live.key_names, "s"),
        of_k=listed(live.key_names, "k"),
        of_l=listed(live.key_names, "l"),
        columns=listed(columns),
        columns_l=listed(columns, "l"),
        update=sql.SQL("UPDATE SET {}").format(assign) if values else sql.SQL("NOTHING"),
    )


def drain(crew: Crew, live: Live, columns: Sequence[str]) -> None:
    """Replay until little is left. Raises TableLockTimeout where the writers stay ahead until the deadline."""
    conn, query = crew.conns[0], statement(live, columns)
    patience = crew.work.settings.run.wait_timeout
    fewest, since, beat = None, time.monotonic(), crew.beat()
    while True:
        crew.work.interrupt.check()
        crew.pace.keep(conn)
        with crew.transaction(conn, live.schema):
            conn.execute("SET LOCAL synchronous_commit = off")
            with by_keys(conn):
                conn.execute(query, [_MANY])
            left = waiting(conn, live)
        if left <= LITTLE:
            return
        if fewest is None or left < fewest:
            fewest, since = left, time.monotonic()
        if beat.due():
            logs.logger().info("online.replaying", table=live.table, left=left)
        if time.monotonic() - since > patience:
            raise TableLockTimeout(
                f'rows of "{live.table}" change faster than they can be replayed: {left} are left after {patience:g} s',
                hint="run it again at a quieter time, it carries on; or migrate --abandon",
            )


def finish(conn: Connection, live: Live, columns: Sequence[str]) -> None:
    """Replay all that is left; under the swap's lock nothing is added any more."""
    with by_keys(conn):
        conn.execute(statement(live, columns), [None])


def assert_little(conn: Connection, live: Live) -> None:
    """Raise TableLockTimeout where much was logged while the swap's lock was waited for: nobody is to wait for that."""
    if waiting(conn, live) > _MANY:
        raise TableLockTimeout(
            f'many rows of "{live.table}" changed while its lock was waited for', hint="run it again: it carries on"
        )


def waiting(conn: Connection, live: Live) -> int:
    """Return how many log entries wait; in a transaction."""
    row = conn.execute(sql.SQL("SELECT count(*) FROM {}.log").format(sql.Identifier(live.ours))).fetchone()
    return int(row[0]) if row else 0


def by_keys(conn: Connection) -> AbstractContextManager[None]:
    """Let the block's statements look rows up by their keys, whatever the statistics say."""
    return database.planner(conn, seqscan="off", hashjoin="off", mergejoin="off")

"""What changed meanwhile: the logged keys' rows are taken from the live table as they are now.

One statement takes keys from the log and their rows from the live table, under one snapshot: a change that is
logged is one that it sees, and one that it does not see is logged and comes later. So the order does not matter.

Rows are looked up by the primary key's index, after the proof too. So the log also says of each key whether its row is
to be there: an index that does not lead to a row must not have it deleted from the copy.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator import events
from schema_migrator.errors import TableLockTimeout
from schema_migrator.online import damage
from schema_migrator.online.damage import Fault
from schema_migrator.online.source_table import column_list as listed
from schema_migrator.online.source_table import identifiers as places
from schema_migrator.postgres import session_settings, transactions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.postgres.connection import Connection

LITTLE = 100
"""Keys that may be left for the swap: some tens of milliseconds."""
_MANY, _MOST = 2000, 20_000
_ROUNDS = 50
# A row is looked up once, by its key and in the table, never in the index alone, and its key is compared again: an
# entry may lead to another row. The last entry of a key says whether its row stays; where a later one was not taken,
# that one will tell.
_REPLAY: LiteralString = """
WITH taken AS (
  DELETE FROM {ours}.log WHERE schema_migrator_turn IN (
    SELECT schema_migrator_turn FROM {ours}.log ORDER BY 1 LIMIT %s)
  RETURNING {key}, schema_migrator_turn, schema_migrator_stays
), keys AS MATERIALIZED (
  SELECT DISTINCT ON ({key}) {renamed}, schema_migrator_turn, schema_migrator_stays FROM taken
  ORDER BY {key}, schema_migrator_turn DESC
), found AS MATERIALIZED (
  SELECT k.*, l.* FROM keys k LEFT JOIN LATERAL (
    SELECT r.*, count(*) OVER () AS schema_migrator_rows
    FROM (
      SELECT led.ctid AS schema_migrator_place, {columns_led} FROM {live} led WHERE ({of_led}) = ({of_k}) OFFSET 0
    ) r
    WHERE ({of_r}) = ({of_k})
  ) l ON true
), gone AS (
  DELETE FROM {shadow} s USING found f WHERE ({of_s}) = ({of_f}) AND f.schema_migrator_place IS NULL
), put AS (
  INSERT INTO {shadow} ({columns}) SELECT {columns} FROM found WHERE schema_migrator_rows = 1
  ON CONFLICT ({key}) DO UPDATE SET {assign}
), wrong AS (
  SELECT f.* FROM found f WHERE f.schema_migrator_rows > 1
  UNION ALL
  SELECT f.* FROM found f WHERE f.schema_migrator_stays <> (f.schema_migrator_place IS NOT NULL) AND NOT EXISTS (
    SELECT FROM {ours}.log g WHERE ({of_g}) = ({of_f}) AND g.schema_migrator_turn > f.schema_migrator_turn)
)
SELECT {texts}, f.schema_migrator_stays, array_agg(f.schema_migrator_place::text)
  FILTER (WHERE f.schema_migrator_place IS NOT NULL)
FROM wrong f GROUP BY {of_f}, f.schema_migrator_stays LIMIT 1
"""


def statement(live: SourceTable, columns: Sequence[str]) -> sql.Composed:
    """Return the query that replays up to so many log entries.

    It answers with nothing, or with a key where the log and the index contradict each other: the key as texts, whether
    its row is to be there, and where rows of it were found.
    """
    # The key too: 1.0 and 1.00 are equal, and so may be names of another case.
    assign = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns)
    renamed = [f"schema_migrator_key_{number}" for number, _ in enumerate(live.key_names)]
    pairs = zip(live.key_names, renamed, strict=True)
    named = [sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(other)) for name, other in pairs]
    texts = [sql.SQL("f.{}::text").format(sql.Identifier(name)) for name in renamed]
    aliases: tuple[LiteralString, ...] = ("s", "g", "r", "led")
    return sql.SQL(_REPLAY).format(
        **places(live),
        **{f"of_{alias}": listed(live.key_names, alias) for alias in aliases},
        of_k=listed(renamed, "k"),
        of_f=listed(renamed, "f"),
        renamed=sql.SQL(", ").join(named),
        texts=sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(texts)),
        columns=listed(columns),
        columns_led=listed(columns, "led"),
        assign=assign,
    )


def drain(pool: WorkerPool, live: SourceTable, columns: Sequence[str]) -> None:
    """Replay until little is left.

    Raises TableLockTimeout where the writers stay ahead until the deadline, and NotAsRehearsed where the log and the
    table contradict each other: the table is damaged, or was emptied.
    """
    conn, query = pool.conns[0], statement(live, columns)
    patience = pool.work.settings.run.wait_timeout
    batch, rounds = _MANY, 0
    fewest, since, beat = None, time.monotonic(), pool.beat()
    while True:
        pool.work.interrupt.check()
        pool.throttle.keep(conn)
        with pool.transaction(conn, live.schema):
            conn.execute("SET LOCAL synchronous_commit = off")
            _replay(conn, live, query, batch)
            few, left = _few(conn, live, LITTLE), _backlog(conn, live)
        if few:
            return
        rounds += 1
        if rounds % _ROUNDS == 0:
            _vacuum(pool, conn, live)
        batch = min(_MOST, max(_MANY, left // 10))
        if fewest is None or left < fewest:
            fewest, since = left, time.monotonic()
        if beat.due():
            events.logger().info("online.replaying", table=live.table, left=left)
        if time.monotonic() - since > patience:
            raise TableLockTimeout(
                f'rows of "{live.table}" change faster than they can be replayed: {left} are left after {patience:g} s',
                hint="run it again at a quieter time: it resumes; or migrate --abandon",
            )


def finish(conn: Connection, live: SourceTable, columns: Sequence[str]) -> None:
    """Replay all that is left; under the swap's lock nothing is added any more. Raises NotAsRehearsed."""
    _replay(conn, live, statement(live, columns), None)


def assert_little(conn: Connection, live: SourceTable) -> None:
    """Raise TableLockTimeout where much was logged while the swap's lock was waited for: nobody is to wait for that."""
    if not _few(conn, live, _MANY):
        raise TableLockTimeout(
            f'many rows of "{live.table}" changed during the wait for its lock', hint="run it again: it resumes"
        )


def _backlog(conn: Connection, live: SourceTable) -> int:
    """Return about how many log entries wait: from the oldest to the newest, in a time that does not grow with them."""
    query = "SELECT coalesce(max(schema_migrator_turn) - min(schema_migrator_turn) + 1, 0) FROM {}.log"
    with transactions.planner(conn, seqscan="off"):
        ((found,),) = conn.execute(sql.SQL(query).format(sql.Identifier(live.ours))).fetchall()
    return int(found)


def _few(conn: Connection, live: SourceTable, most: int) -> bool:
    """Return whether no more than so many log entries wait; in a transaction. No more than those are looked at."""
    query = "SELECT count(*) FROM (SELECT FROM {}.log ORDER BY schema_migrator_turn LIMIT %s) head"
    with transactions.planner(conn, seqscan="off"):
        ((found,),) = conn.execute(sql.SQL(query).format(sql.Identifier(live.ours)), [most + 1]).fetchall()
    return int(found) <= most


def _vacuum(pool: WorkerPool, conn: Connection, live: SourceTable) -> None:
    """Remove what was replayed, or each look for the oldest entry would go over all of it; no writer is held up."""
    limits = session_settings.Limits(table_lock=0, statement=0)
    with transactions.session(conn, limits, name=pool.work.lock.worker):
        conn.execute(sql.SQL("VACUUM (TRUNCATE false) {}.log").format(sql.Identifier(live.ours)))


def _replay(conn: Connection, live: SourceTable, query: sql.Composed, most: int | None) -> None:
    """Take entries from the log; their rows are looked up by their keys, whatever the statistics say."""
    with transactions.planner(conn, seqscan="off", mergejoin="off", indexonlyscan="off"):
        row = conn.execute(query, [most]).fetchone()
    if row is None:
        return
    key, stays, found = row
    what = damage.DOUBLED if len(found or ()) > 1 else damage.UNLED if stays else damage.GONE
    raise damage.refusal(live, Fault(what=what, key=tuple(key), places=tuple(found or ())))

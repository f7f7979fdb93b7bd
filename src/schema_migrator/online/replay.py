"""The replay of the change log: rows with logged keys are copied again, as they are in the live table now.

One statement takes keys from the change log and their rows from the live table, under one snapshot. It sees every
change that it finds logged, and a change that it does not see is logged and replayed later. So the order of changes
does not matter.

Several connections replay the log, each the entries of its own share of the keys. Two of them
with the same key could restore an older row: the one whose snapshot is older may be the last to write.

Rows are looked up by the primary key's index, even after the proof. So the change log also records for each key whether
its row should exist: an index that does not lead to a row must not cause its deletion from the copy.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator.catalog.leftovers import REPLAYED
from schema_migrator.errors import TableLockTimeout
from schema_migrator.online import damage
from schema_migrator.online.damage import Fault
from schema_migrator.online.source_table import column_list as listed
from schema_migrator.online.source_table import identifiers as places
from schema_migrator.postgres import session_settings, transactions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.online.progress import Progress
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.postgres.connection import Connection

LITTLE = 100
"""The number of keys that may be left for the cutover: they take some tens of milliseconds."""
_MANY, _MOST = 2000, 20_000
_EACH = 50
"""The number of keys that are worth another connection. Writers are overtaken only if the last rounds are fast too."""
_ROUNDS = 50
# A row is looked up once, by its key and in the table, never by an index-only scan, and its key is compared again: an
# index entry may lead to another row. The last log entry of a key says whether its row exists. If a later entry was
# not taken this time, that entry will decide.
_REPLAY: LiteralString = """
WITH taken AS (
  DELETE FROM {ours}.log WHERE schema_migrator_turn IN (
    SELECT schema_migrator_turn FROM {ours}.log {of_share} ORDER BY 1 LIMIT %s)
  RETURNING {key}, schema_migrator_turn, schema_migrator_stays
), keys AS MATERIALIZED (
  SELECT DISTINCT ON ({key}) {renamed}, schema_migrator_turn, schema_migrator_stays FROM taken
  ORDER BY {key}, schema_migrator_turn DESC
){noted}, found AS MATERIALIZED (
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

# By each type's own hash function: values that are equal have the same one, whatever they look like.
_HASH: LiteralString = "pg_catalog.hash_array(ARRAY[{}])"

_NOTED: LiteralString = ", noted AS (INSERT INTO {} SELECT {} FROM keys)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of `of` shares of all keys; equal keys are in the same one."""

    number: int = 0
    of: int = 1


ALL = Share()


def statement(live: SourceTable, columns: Sequence[str], *, noting: bool = False, share: Share = ALL) -> sql.Composed:
    """Return the query that replays log entries of a share of the keys; its parameter is the maximum number of them.

    With `noting` it also notes their keys, for `replay_proof`.

    It returns no row, or a key for which change log and index contradict each other: the key as texts, whether its row
    should exist, and the ctids of the rows that were found.
    """
    # The key's columns are assigned too: 1.0 and 1.00 are equal, and so may be names that differ in case.
    assign = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns)
    renamed = [f"schema_migrator_key_{number}" for number, _ in enumerate(live.key_names)]
    pairs = zip(live.key_names, renamed, strict=True)
    named = [sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(other)) for name, other in pairs]
    texts = [sql.SQL("f.{}::text").format(sql.Identifier(name)) for name in renamed]
    aliases: tuple[LiteralString, ...] = ("s", "g", "r", "led")
    return sql.SQL(_REPLAY).format(
        **places(live),
        **{f"of_{alias}": listed(live.key_names, alias) for alias in aliases},
        of_share=_of_share(live, share),
        of_k=listed(renamed, "k"),
        of_f=listed(renamed, "f"),
        renamed=sql.SQL(", ").join(named),
        noted=sql.SQL(_NOTED).format(sql.Identifier(live.ours, REPLAYED), listed(renamed)) if noting else sql.SQL(""),
        texts=sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(texts)),
        columns=listed(columns),
        columns_led=listed(columns, "led"),
        assign=assign,
    )


def _of_share(live: SourceTable, share: Share) -> sql.Composed:
    """Return the condition for the log entries of a share."""
    if share == ALL:
        return sql.Composed([])
    hashed = sql.SQL(" # ").join(sql.SQL(_HASH).format(sql.Identifier(name)) for name in live.key_names)
    text = sql.SQL("WHERE pg_catalog.mod(({}) & 2147483647, {}) = {}")
    return text.format(hashed, sql.Literal(share.of), sql.Literal(share.number))


@dataclass(slots=True, kw_only=True)
class _Backlog:
    """How far a drain has come. `first`: the oldest entry at its beginning; `fewest`: the smallest backlog so far."""

    table: str
    progress: Progress
    patience: float
    first: int | None = None
    fewest: int | None = None
    since: float = field(default_factory=time.monotonic)

    def note(self, oldest: int, left: int) -> None:
        """Take note of what is left. Raises TableLockTimeout if that has not shrunk for `patience` seconds."""
        if self.fewest is None or left < self.fewest:
            self.fewest, self.since = left, time.monotonic()
        self.first = oldest if self.first is None else self.first
        self.progress.reach(oldest - self.first, total=oldest - self.first + left)
        if time.monotonic() - self.since > self.patience:
            raise TableLockTimeout(
                f'rows of "{self.table}" change faster than they can be replayed: {left} are left after'
                f" {self.patience:g} s",
                hint="run it again at a quieter time: it resumes; or migrate --abandon",
            )


def drain(pool: WorkerPool, live: SourceTable, columns: Sequence[str], *, noting: bool = False) -> None:
    """Replay until few log entries are left; `noting`: see `statement`.

    Raises TableLockTimeout if the backlog does not shrink for `wait_timeout` seconds because writers are faster, and
    NotAsRehearsed if change log and table contradict each other: the table is damaged, or was emptied.
    """
    conn, rounds, left = pool.conns[0], 0, 0
    progress = pool.progress(live.table, "replay", "changes", None)
    backlog = _Backlog(table=live.table, progress=progress, patience=pool.work.settings.run.wait_timeout)
    while True:
        pool.work.interrupt.check()
        pool.throttle.keep(conn)
        batch, workers = min(_MOST, max(_MANY, left // 10)), _workers(pool, left)
        if workers > 1:
            _replay_together(pool, live, columns, batch // workers, workers, noting=noting)
        with pool.transaction(conn, live.schema):
            if workers == 1:
                _replay_some(conn, live, statement(live, columns, noting=noting), batch)
            few, (oldest, left) = _few(conn, live, LITTLE), _seen(conn, live)
        if few:
            return
        rounds += 1
        if rounds % _ROUNDS == 0:
            vacuum(pool, live)
        backlog.note(oldest, left)


def _workers(pool: WorkerPool, left: int) -> int:
    """Return how many connections replay that many entries: several only if each has enough of them."""
    return max(1, min(pool.throttle.allowed, left // _EACH))


def _replay_together(
    pool: WorkerPool, live: SourceTable, columns: Sequence[str], most: int, workers: int, *, noting: bool
) -> None:
    """Replay up to `most` entries on each of some workers. Each has a share of the keys until all have ended."""
    together = replace(pool, failed=threading.Event(), over=threading.Event(), busy=set(), cancelled=set())

    def job(conn: Connection) -> None:
        number = pool.conns.index(conn)
        if number < workers:
            share = Share(number=number, of=workers)
            with together.transaction(conn, live.schema):
                _replay_some(conn, live, statement(live, columns, noting=noting, share=share), most)

    together.each(job)


def _replay_some(conn: Connection, live: SourceTable, query: sql.Composed, most: int) -> None:
    conn.execute("SET LOCAL synchronous_commit = off")
    _replay(conn, live, query, most)


def finish(conn: Connection, live: SourceTable, columns: Sequence[str]) -> None:
    """Replay all entries that are left; under the cutover's lock none are added. Raises NotAsRehearsed."""
    _replay(conn, live, statement(live, columns), None)


def assert_little(conn: Connection, live: SourceTable) -> None:
    """Raise TableLockTimeout if many changes were logged during the wait for the lock: writers would wait for them."""
    if not _few(conn, live, _MANY):
        raise TableLockTimeout(
            f'many rows of "{live.table}" changed during the wait for its lock', hint="run it again: it resumes"
        )


def _seen(conn: Connection, live: SourceTable) -> tuple[int, int]:
    """Return the oldest entry's turn and the approximate number of entries, in constant time; zeros if it is empty."""
    query = "SELECT coalesce(min(schema_migrator_turn), 0), coalesce(max(schema_migrator_turn), -1) FROM {}.log"
    with transactions.planner(conn, seqscan="off"):
        ((oldest, newest),) = conn.execute(sql.SQL(query).format(sql.Identifier(live.ours))).fetchall()
    return oldest, newest - oldest + 1


def _few(conn: Connection, live: SourceTable, most: int) -> bool:
    """Return whether the change log has at most `most` entries; in an open transaction. Reads at most one more."""
    query = "SELECT count(*) FROM (SELECT FROM {}.log ORDER BY schema_migrator_turn LIMIT %s) head"
    with transactions.planner(conn, seqscan="off"):
        ((entries,),) = conn.execute(sql.SQL(query).format(sql.Identifier(live.ours)), [most + 1]).fetchall()
    return int(entries) <= most


def vacuum(pool: WorkerPool, live: SourceTable) -> None:
    """Remove replayed entries, which every search for the oldest entry would otherwise scan. No writer is blocked."""
    conn = pool.conns[0]
    limits = session_settings.Limits(table_lock=0, statement=0)
    with transactions.session(conn, limits, name=pool.work.lock.worker):
        conn.execute(sql.SQL("VACUUM (TRUNCATE false) {}.log").format(sql.Identifier(live.ours)))


def _replay(conn: Connection, live: SourceTable, query: sql.Composed, most: int | None) -> None:
    """Replay up to `most` log entries (None: all). Rows are looked up by key, whatever the statistics say."""
    with transactions.planner(conn, seqscan="off", mergejoin="off", indexonlyscan="off"):
        row = conn.execute(query, [most]).fetchone()
    if row is None:
        return
    key, stays, found = row
    what = damage.DOUBLED if len(found or ()) > 1 else damage.UNLED if stays else damage.GONE
    raise damage.refusal(live, Fault(what=what, key=tuple(key), places=tuple(found or ())))

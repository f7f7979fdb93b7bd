"""Faults of an online rewrite's protocol, to see that the schedules find them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from unittest.mock import patch

from psycopg import sql

from schema_migrator.online import backfill, change_log, copy_proof, replay
from schema_migrator.online.backfill import Batch, Range
from schema_migrator.online.source_table import SourceTable
from schema_migrator.online.worker_pool import WorkerPool
from support.postgres.engine import Connection

Plant = Callable[[], AbstractContextManager[object]]
"""Plants a fault for a block."""


def text(module: object, name: str, old: str, new: str) -> AbstractContextManager[object]:
    """Change a part of a module's statement."""
    before = getattr(module, name)
    assert old in before
    return patch.object(module, name, before.replace(old, new))


def in_log(old: str, new: str) -> Plant:
    """Change the trigger's function."""
    return partial(text, change_log, "_LOG_BODY", old, new)


def in_replay(old: str, new: str) -> Plant:
    """Change the statement that replays."""
    return partial(text, replay, "_REPLAY", old, new)


def boundaries_belong_to_nobody() -> AbstractContextManager[object]:
    """Leave the last key of a batch out of it, as the next one does."""
    right = backfill.ranges

    def wrong(after: Sequence[str] | None, upto: Sequence[str] | None) -> Iterator[Range]:
        return (replace(part, included=False) for part in right(after, upto))

    return patch.object(backfill, "ranges", wrong)


def marked_before_it_is_copied() -> AbstractContextManager[object]:
    """Mark a batch in a transaction of its own, then copy it: what is between is lost with the engine."""
    right = backfill._copy_batch

    def wrong(pool: WorkerPool, conn: Connection, live: SourceTable, columns: Sequence[str], batch: Batch) -> int:
        batches = sql.Identifier(live.ours, "batches")
        with pool.transaction(conn, live.schema):
            conn.execute(sql.SQL("UPDATE {} SET rows = 0 WHERE number = %s").format(batches), [batch.number])
        with patch.object(backfill, "_COPY", backfill._COPY.replace("AND b.rows IS NULL", "")):
            return right(pool, conn, live, columns, batch)

    return patch.object(backfill, "_copy_batch", wrong)


def open_batches_are_forgotten() -> AbstractContextManager[object]:
    """Go on after the last batch, whether the ones before it were copied or not."""
    right = backfill._take_up

    def wrong(pool: WorkerPool, live: SourceTable) -> backfill._Batches:
        taken_up = right(pool, live)
        taken_up.left.clear()
        return taken_up

    return patch.object(backfill, "_take_up", wrong)


def copied_while_nobody_logs() -> AbstractContextManager[object]:
    """Log nothing before the rows were copied."""
    right = backfill.fill

    def wrong(pool: WorkerPool, live: SourceTable, columns: Sequence[str]) -> int:
        rows = right(pool, live, columns)
        pool.conns[0].execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(live.ours, "log")))
        return rows

    return patch.object(backfill, "fill", wrong)


@contextmanager
def read_before_they_are_taken() -> Iterator[None]:
    """Replay the rows of the entries in one statement, and delete all entries that are there in the next."""
    right = replay._replay

    def wrong(conn: Connection, live: SourceTable, query: sql.Composed, most: int | None) -> None:
        right(conn, live, query, most)
        conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(live.ours, "log")))

    with (
        in_replay("DELETE FROM {ours}.log WHERE", "SELECT * FROM {ours}.log WHERE")(),
        in_replay("RETURNING {key}, schema_migrator_turn, schema_migrator_stays", "")(),
        patch.object(replay, "_replay", wrong),
    ):
        yield


def nothing_is_replayed_under_the_lock() -> AbstractContextManager[object]:
    """Exchange the tables with what the last drain has left."""
    return patch.object(replay, "finish", lambda *_: None)


@contextmanager
def proof_and_replay_see_no_deletion() -> Iterator[None]:
    """Two faults that hide each other from the proof: rows stay in the copy, and nobody counts."""
    with (
        in_replay("AND f.schema_migrator_place IS NULL", "AND false")(),
        patch.object(copy_proof, "_count", lambda *_: None),
    ):
        yield


FAULTS: Mapping[str, Plant] = {
    "deletions are not logged": in_log("TG_OP = 'DELETE' OR", "false OR"),
    "a changed key is logged as the new one alone": in_log("TG_OP = 'UPDATE' AND", "false AND"),
    "insertions are not logged": in_log("TG_OP <> 'DELETE'", "TG_OP = 'UPDATE'"),
    "deleted rows stay in the copy": in_replay("AND f.schema_migrator_place IS NULL", "AND false"),
    "changed rows stay as they were copied": in_replay("DO UPDATE SET {assign}", "DO NOTHING"),
    "log entries are dropped": in_replay(
        "schema_migrator_stays FROM taken", "schema_migrator_stays FROM taken WHERE schema_migrator_turn %% 5 > 0"
    ),
    "rows are read before their entries are taken": read_before_they_are_taken,
    "the last key of a batch belongs to none": boundaries_belong_to_nobody,
    "a batch is marked before it is copied": marked_before_it_is_copied,
    "open batches are forgotten": open_batches_are_forgotten,
    "rows are copied while nobody logs": copied_while_nobody_logs,
    "nothing is replayed under the lock": nothing_is_replayed_under_the_lock,
    "deleted rows stay, and nobody counts": proof_and_replay_see_no_deletion,
}
"""By what is wrong."""

"""The shadow table's indexes, built in parallel and without CONCURRENTLY: no other session uses it or is blocked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
from psycopg import errors, sql

from schema_migrator import events
from schema_migrator.catalog.leftovers import ROWS
from schema_migrator.errors import RetryableError
from schema_migrator.online import damage, shadow_table, source_table
from schema_migrator.postgres import server_errors, transactions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.errors import NotAsRehearsed
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.planning.rewrite_span import Named, TargetShape
    from schema_migrator.postgres.connection import Connection

_BUILT = """
SELECT c.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::regclass
"""
_SIZES = """
SELECT c.relname::text, pg_catalog.pg_relation_size(c.oid)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s
"""
# Indexes that stay keep their tablespace. New ones go to the role's default tablespace, as in a rewrite in place.
_SPACES = """
SELECT c.relname::text, coalesce(s.spcname::text, '') FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
WHERE i.indrelid = %s
"""
_DEFAULT_SPACE = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_tablespace'"
# A share of shared_buffers, at most 1 GB, and never less than the setting.
_MEMORY = """
SELECT set_config('maintenance_work_mem', greatest(
  pg_size_bytes(current_setting('maintenance_work_mem')),
  least(pg_size_bytes(current_setting('shared_buffers')) / (4 * %s), 1024::bigint * 1024 * 1024)) / 1024 || 'kB', true)
"""


def rehearse(conn: Connection, store: StoreSettings, live: SourceTable, shape: TargetShape) -> None:
    """Build all indexes on the empty shadow table and undo that, in the open transaction. Raises what `build` would."""
    sent: list[tuple[str, psycopg.Cursor[Any]]] = []
    conn.execute("SAVEPOINT schema_migrator_indexes")
    try:
        with transactions.store_path(conn, transactions.path_of(conn, live.schema)):
            for name, definition in shape.indexes:
                cursor = conn.cursor()
                sent.append((name, cursor))
                cursor.execute(shadow_table.index_on(definition, live.ours))
        conn.execute("SELECT 1").fetchone()  # raises if a statement before it has failed
    except psycopg.Error as error:
        failed = next((name for name, cursor in sent if cursor.statusmessage is None), None)
        if failed is None:
            raise
        _refuse(error, store, live, failed, "nothing was changed")
    conn.execute("ROLLBACK TO SAVEPOINT schema_migrator_indexes")
    conn.execute("RELEASE SAVEPOINT schema_migrator_indexes")


def build(pool: WorkerPool, live: SourceTable, shape: TargetShape) -> None:
    """Build the missing indexes, the largest first, then add the primary key with its index."""
    first = pool.conns[0]
    key = source_table.primary(first, live)
    place = f"{live.ours}.{ROWS}"
    built = {name for (name,) in transactions.ask(first, _BUILT, [place])}
    missing = [index for index in (key, *shape.indexes) if index[0] not in built]
    sizes = _expected_sizes(first, live, missing)
    missing.sort(key=lambda index: -sizes[index[0]])  # so that no worker builds a large one alone at the end
    spaces = _spaces(first, live, shape)
    started = time.monotonic()

    def build_one(conn: Connection, index: Named) -> None:
        name, definition = index
        try:
            _build_one(pool, conn, live, definition, spaces[name])
        except errors.UniqueViolation as error:
            raise _doubled(pool, conn, live, error) from error
        except psycopg.Error as error:
            _refuse(error, pool.work.store, live, name)
        events.logger().debug("online.index_started", index=name)

    progress = pool.progress(live.table, "index builds", "bytes", sum(sizes.values()))
    pool.share(missing, build_one, progress, lambda index: sizes[index[0]])
    _make_primary(pool, live, key[0])
    seconds = round(time.monotonic() - started, 1)
    events.logger().info("online.indexed", table=live.table, indexes=len(missing), seconds=seconds)


def _expected_sizes(conn: Connection, live: SourceTable, missing: Sequence[Named]) -> dict[str, int]:
    """Return the bytes of each index in the live table, by name; new ones count as medium."""
    sizes = dict(transactions.ask(conn, _SIZES, [live.oid]))
    middling = sorted(sizes.values())[len(sizes) // 2] if sizes else 0
    return {name: sizes.get(name, middling) for name, _ in missing}


def _spaces(conn: Connection, live: SourceTable, shape: TargetShape) -> dict[str, str]:
    """Return the tablespace of each index to build; empty for the database's own."""
    new = {key.name for key in shape.touched if key.kind == "index"}
    kept = {name: space for name, space in transactions.ask(conn, _SPACES, [live.oid]) if name not in new}
    ((default,),) = transactions.ask(conn, _DEFAULT_SPACE)
    return {**{name: default or "" for name, _ in shape.indexes}, **kept}


def _build_one(pool: WorkerPool, conn: Connection, live: SourceTable, definition: str, space: str) -> None:
    with pool.transaction(conn, live.schema):
        if not pool.throttle.tuner.scarce:
            conn.execute(_MEMORY, [pool.throttle.tuner.workers])
        conn.execute("SET LOCAL max_parallel_maintenance_workers = 0")  # the pool itself is parallel
        with transactions.store_path(conn, transactions.path_of(conn, live.schema)):
            conn.execute(sql.SQL("SET LOCAL default_tablespace = {}").format(sql.Literal(space)))
            conn.execute(shadow_table.index_on(definition, live.ours))


def _doubled(pool: WorkerPool, conn: Connection, live: SourceTable, error: errors.UniqueViolation) -> NotAsRehearsed:
    """Return the error for a key that was copied twice: two rows have it, or its index points to one row twice."""
    with pool.transaction(conn, live.schema):
        fault = damage.twins(conn, live)
    detail = (error.diag.message_detail or error.diag.message_primary or "").removesuffix(".")
    return damage.refusal(live, fault) if fault else damage.led_twice(live, detail)


def _refuse(error: psycopg.Error, store: StoreSettings, live: SourceTable, name: str, stays: str = "") -> NoReturn:
    """Raise an error that names the index, or the original error if a retry can help."""
    explained = server_errors.explain(error, store)
    if isinstance(explained, RetryableError):
        raise error
    message = f'PostgreSQL cannot build the index "{name}" of "{live.table}" ({error.sqlstate})'
    hint = "; ".join(filter(None, [explained.hint, stays]))
    raise type(explained)(f"{message}: {error.diag.message_primary}", hint=hint) from error


def _make_primary(pool: WorkerPool, live: SourceTable, name: str) -> None:
    primary = "SELECT FROM pg_catalog.pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'"
    conn = pool.conns[0]
    if transactions.ask(conn, primary, [f"{live.ours}.{ROWS}"]):
        return
    with pool.transaction(conn, live.schema):
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}")
        conn.execute(add.format(sql.Identifier(live.ours, ROWS), sql.Identifier(name), sql.Identifier(name)))
        for statement in live.attributes.late:
            conn.execute(statement.encode())

"""Statements that PostgreSQL refuses in a transaction: indexes are built, rebuilt and dropped CONCURRENTLY."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from schema_migrator import events
from schema_migrator.errors import PreflightFailed, StatementFailed, TableLockTimeout
from schema_migrator.postgres import connection, pooler, server_errors, session_settings, transactions

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.statements import Statement
    from schema_migrator.runs.context import RunContext

_LEFT_INVALID = """
SELECT i.relname FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
WHERE n.nspname = %s AND i.relname = %s AND NOT x.indisvalid
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = i.oid)
"""
_BUILDER = """
SELECT p.pid FROM pg_catalog.pg_stat_progress_create_index p JOIN pg_catalog.pg_class i ON i.oid = p.index_relid
JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace WHERE n.nspname = %s AND i.relname = %s
"""
_NO_LIMITS = session_settings.Limits(table_lock=0, statement=0)


def run(work: RunContext, schema: str, statements: Sequence[Statement]) -> None:
    """Run CONCURRENTLY statements one by one; none blocks a writer."""
    with _session(work) as conn:
        for statement in statements:
            work.interrupt.check()
            _run_one(work, conn, schema, statement)


def _run_one(work: RunContext, conn: Connection, schema: str, statement: Statement) -> None:
    name = statement.concurrent_index
    work.lock.assert_held(work.lock.ask(conn))
    if name is not None:
        _drop_invalid(conn, schema, name)
    with transactions.store_path(conn, transactions.path_of(conn, schema), local=False):
        _run_alone(conn, statement)
    if name is not None and _is_invalid(conn, schema, name):
        raise StatementFailed(
            f'the index "{name}" was built, but PostgreSQL marks it as invalid',
            hint="run this again: it drops the invalid index and rebuilds it",
        )


def _run_alone(conn: Connection, statement: Statement) -> None:
    try:
        conn.execute(statement.text.encode())
    except psycopg.Error as error:
        raise server_errors.blame(statement, error) from error


def _is_invalid(conn: Connection, schema: str, name: str) -> bool:
    return conn.execute(_LEFT_INVALID, [schema, name]).fetchone() is not None


def _drop_invalid(conn: Connection, schema: str, name: str) -> None:
    """Drop the invalid index of an interrupted build: IF NOT EXISTS would accept it as a finished index."""
    if _is_invalid(conn, schema, name):
        events.logger().warning("index.invalid", index=name, action="dropped, to be rebuilt")
        conn.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, name)))


def rebuild_indexes(work: RunContext, schema: str, names: Sequence[str], leftovers: Sequence[str]) -> None:
    """Rebuild indexes that an interrupted CREATE INDEX CONCURRENTLY left invalid; no writer is blocked.

    `leftovers` are the indexes of interrupted rebuilds (`..._ccnew`), which are dropped, as PostgreSQL recommends.
    """
    with _session(work) as conn:
        for name in (*leftovers, *names):
            work.lock.assert_held(work.lock.ask(conn))
            _assert_not_being_built(conn, schema, name)
            events.logger().warning("index.invalid", index=name, action="dropped" if name in leftovers else "rebuilt")
            verb = sql.SQL("DROP INDEX CONCURRENTLY" if name in leftovers else "REINDEX INDEX CONCURRENTLY")
            conn.execute(sql.SQL("{} {}").format(verb, sql.Identifier(schema, name)))


def _assert_not_being_built(conn: Connection, schema: str, name: str) -> None:
    builder = conn.execute(_BUILDER, [schema, name]).fetchone()
    if builder is not None:
        raise TableLockTimeout(
            f'backend {builder[0]} is building the index "{name}" right now',
            hint="wait for it to finish, then run this again",
        )


@contextmanager
def _session(work: RunContext) -> Iterator[Connection]:
    """Yield a connection in autocommit with our session settings, past a transaction pooler if that is configured.

    Raises PreflightFailed if a transaction pooler is in the way.
    """
    store = pooler.past(work.conn, work.store)
    with ExitStack() as stack:
        conn = work.conn
        if work.store.has_direct:
            conn = stack.enter_context(closing(connection.connect(store, work.interrupt, patience=10)))
        stack.enter_context(server_errors.translated(store, work.interrupt))
        if not pooler.keeps_session(conn, store, work.interrupt):  # our session settings would stay for another client
            found, remedy = pooler.in_the_way("building indexes CONCURRENTLY")
            raise PreflightFailed(found, hint=remedy)
        stack.enter_context(transactions.session(conn, _NO_LIMITS, name=work.lock.worker))
        yield conn

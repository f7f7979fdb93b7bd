"""Removes what online rewrites left behind: our own objects, one by one, and no object of any other role.

Leftovers are found in `catalog.leftovers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql

from schema_migrator import events
from schema_migrator.catalog import leftovers
from schema_migrator.catalog.leftovers import CONTROL, ONLINE, REPLAYED, ROWS, TRIGGER
from schema_migrator.config import sizes
from schema_migrator.errors import MigratorError, NotOurs, TableLockTimeout
from schema_migrator.postgres import server_errors, transactions
from schema_migrator.runs import guarded

if TYPE_CHECKING:
    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.planning.plan import Plan
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.runs.context import RunContext

_OWNED: LiteralString = """
owned AS (
  SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
  UNION SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.oid = %(oid)s
  UNION SELECT c.relowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname IN (%(table)s, 'schema_version')
)
"""
_HELD: LiteralString = f"""
WITH {_OWNED}
SELECT 'TABLE', c.relname::text FROM pg_catalog.pg_class c
WHERE c.relnamespace = %(oid)s AND c.relkind = 'r' AND c.relname = ANY (%(ours)s)
  AND c.relowner IN (SELECT oid FROM owned)
UNION ALL SELECT 'FUNCTION', p.proname::text FROM pg_catalog.pg_proc p
WHERE p.pronamespace = %(oid)s AND p.proname = 'log' AND p.pronargs = 0 AND p.proowner IN (SELECT oid FROM owned)
ORDER BY 1 DESC, 2
"""  # noqa: S608 - constants
_TRIGGERS: LiteralString = f"""
WITH {_OWNED}
SELECT n.nspname::text, c.relname::text, g.tgname::text,
  g.tgname = 'schema_migrator_log' AND (n.nspname = %(schema)s OR c.oid = %(live)s)
    AND c.relowner IN (SELECT oid FROM owned)
FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
WHERE p.pronamespace = %(oid)s ORDER BY 1, 2, 3
"""  # noqa: S608 - constants
_FOREIGN: LiteralString = """
SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, 0) || coalesce(
  ' of "' || pg_catalog.pg_get_userbyid(coalesce(c.relowner, p.proowner)) || '"', '')
FROM pg_catalog.pg_depend d
LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
LEFT JOIN pg_catalog.pg_proc p ON d.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.objid
WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = %s ORDER BY 1
"""
_ABANDON = "schema-migrator migrate --abandon removes it with the copy"


def removed(work: RunContext, schema: str) -> bool:
    """Remove all leftovers after a failure; return whether that succeeded.

    An error in here is only logged, because the first failure is the one to raise.
    """
    try:
        abandon(work, schema)
    except (MigratorError, psycopg.Error) as error:
        events.logger().warning("online.leftovers", reason=str(error))
        return False
    return True


def remaining(work: RunContext, schema: str) -> str:
    """Return in words what an unfinished rewrite has left on the table; empty if nothing."""
    try:
        with work.interrupt.sparing(work.conn):
            left = [leftover for leftover in _left(work, schema) if leftover.unfinished]
    except (MigratorError, psycopg.Error):  # a broken connection cannot be asked
        return f"a trigger that logs every change may remain on the table: {_ABANDON}"
    return "; ".join(
        f'a trigger on "{leftover.table}" still logs changes ({sizes.text(leftover.log_bytes)} so far): {_ABANDON}'
        for leftover in left
    )


def _left(work: RunContext, schema: str) -> tuple[Leftover, ...]:
    with transactions.look(work.conn, schema, name=work.lock.worker):
        return find(work, schema)


def find(work: RunContext, schema: str) -> tuple[Leftover, ...]:
    """Return what online rewrites left behind for the store's tables in a schema; in an open transaction."""
    return leftovers.find(work.conn, schema, work.release.source(work.store.store).tables).leftovers


def abandon(work: RunContext, schema: str, *, kept: bool = False) -> tuple[Leftover, ...]:
    """Remove unfinished rewrites and what finished ones left; with `kept` also old tables that were kept on request.

    Returns what was removed.
    """
    return remove_all(work, [leftover for leftover in _left(work, schema) if kept or not leftover.kept])


def clear(work: RunContext, plan: Plan) -> None:
    """Remove, before a plan runs, what earlier rewrites left behind and this plan does not resume."""
    resumed = plan.online.table if plan.online and plan.online.shape else None
    remove_all(
        work,
        [
            leftover
            for leftover in plan.leftovers
            if not leftover.kept and (leftover.finished or leftover.lost or leftover.table != resumed)
        ],
    )


def tidy(work: RunContext, schema: str) -> tuple[Leftover, ...]:
    """Remove what a finished rewrite no longer needs, and return it. If a table is locked, leave it to a later run."""
    done = [leftover for leftover in _left(work, schema) if leftover.finished and not leftover.kept]
    try:
        return remove_all(work, done)
    except TableLockTimeout as error:
        schemas = [leftover.name for leftover in done]
        events.logger().warning("online.leftovers", schemas=schemas, reason=error.message)
        return ()


def remove_all(work: RunContext, leftovers_found: Sequence[Leftover]) -> tuple[Leftover, ...]:
    """Remove leftovers, each in a transaction of its own; return them."""
    for leftover in leftovers_found:
        guarded.retried(work, leftover.target, [leftover.table], partial(_remove_one, leftover=leftover))
        events.logger().info("online.removed", schema=leftover.name, table=leftover.table)
    return tuple(leftovers_found)


def _remove_one(work: RunContext, leftover: Leftover) -> None:
    with (
        server_errors.translated(work.store, work.interrupt),
        transactions.transaction(work.conn, leftover.schema, work.limits, name=work.lock.worker),
    ):
        remove(work.conn, leftover)
        work.lock.assert_held(work.lock.ask(work.conn))


def remove(conn: Connection, found: Leftover) -> None:
    """Remove one of our schemas with all that is ours in it, in an open transaction; never with CASCADE.

    Raises NotOurs if the schema has an object of another role, or if a trigger that is not ours calls our function.
    """
    known = [found.name] if found.retired else [ROWS, "log", "batches", CONTROL, REPLAYED]
    number = found.name.removeprefix(ONLINE)  # the oid of the table, which may be in another schema by now
    live = int(number) if number.isdecimal() else 0
    place = {"oid": found.oid, "schema": found.schema, "table": found.table, "live": live, "ours": known}
    if not found.retired:
        _remove_trigger(conn, found, place)
    for kind, name in conn.execute(_HELD, place).fetchall():
        drop = sql.SQL("DROP TABLE {}" if kind == "TABLE" else "DROP FUNCTION {}()")
        conn.execute(drop.format(sql.Identifier(found.name, name)))
    foreign = ", ".join(name for (name,) in conn.execute(_FOREIGN, [found.oid]).fetchall())
    if foreign:
        raise NotOurs(
            f'the schema "{found.name}", left by an online rewrite, contains objects that are not ours: {foreign}',
            hint="move that elsewhere, then run this again",
        )
    conn.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(found.name)))


def _remove_trigger(conn: Connection, found: Leftover, place: dict[str, object]) -> None:
    triggers = conn.execute(_TRIGGERS, place).fetchall()
    foreign = ", ".join(f'"{name}" on {schema}.{table}' for schema, table, name, ours in triggers if not ours)
    if foreign:
        raise NotOurs(
            f'a trigger that is not ours calls a function in the schema "{found.name}" of an online rewrite: {foreign}',
            hint="check that nothing needs that trigger, drop it, then run this again",
        )
    for schema, table, _, _ in triggers:
        drop = sql.SQL("DROP TRIGGER {} ON {}")
        conn.execute(drop.format(sql.Identifier(TRIGGER), sql.Identifier(schema, table)))

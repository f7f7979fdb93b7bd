"""The shadow's indexes, built plainly and side by side: nobody else uses it, so nobody is held up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from psycopg import errors, sql

from schema_migrator import damage, database, logs, shadow
from schema_migrator.traces import ROWS

if TYPE_CHECKING:
    from schema_migrator.crew import Crew
    from schema_migrator.database import Connection
    from schema_migrator.errors import NotAsRehearsed
    from schema_migrator.reshape import Named, Shape
    from schema_migrator.shadow import Live

_BUILT = """
SELECT c.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::regclass
"""
_SIZES = """
SELECT c.relname::text, pg_catalog.pg_relation_size(c.oid)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s
"""
# A share of what the server keeps for itself, and never less than it is set to.
_MEMORY = """
SELECT set_config('maintenance_work_mem', greatest(
  pg_size_bytes(current_setting('maintenance_work_mem')),
  least(pg_size_bytes(current_setting('shared_buffers')) / (4 * %s), 1024::bigint * 1024 * 1024)) / 1024 || 'kB', true)
"""


def build(crew: Crew, live: Live, shape: Shape) -> None:
    """Build what is not there yet, the largest first, then make the primary key of its index."""
    first = crew.conns[0]
    key = shadow.primary(first, live)
    place = f"{live.ours}.{ROWS}"
    built = {name for (name,) in database.ask(first, _BUILT, [place])}
    missing = _largest_first(first, live, [one for one in (key, *shape.indexes) if one[0] not in built])
    started = time.monotonic()

    def build_one(conn: Connection, one: Named) -> None:
        name, definition = one
        try:
            _build_one(crew, conn, live, definition)
        except errors.UniqueViolation as error:
            raise _doubled(crew, conn, live, error) from error
        logs.logger().debug("online.index", index=name)

    def tell(done: int) -> None:
        left, spent = len(missing) - done, round(time.monotonic() - started)
        logs.logger().info("online.indexing", table=live.table, left=left, of=len(missing), seconds=spent)

    crew.share(missing, build_one, tell)
    _make_primary(crew, live, key[0])
    seconds = round(time.monotonic() - started, 1)
    logs.logger().info("online.indexed", table=live.table, indexes=len(missing), seconds=seconds)


def _largest_first(conn: Connection, live: Live, missing: list[Named]) -> list[Named]:
    """Order them so that no member is left alone with a long one at the end; what is new counts as middling."""
    sizes = dict(database.ask(conn, _SIZES, [live.oid]))
    middling = sorted(sizes.values())[len(sizes) // 2] if sizes else 0
    return sorted(missing, key=lambda one: -sizes.get(one[0], middling))


def _build_one(crew: Crew, conn: Connection, live: Live, definition: str) -> None:
    with crew.transaction(conn, live.schema):
        conn.execute(_MEMORY, [len(crew.conns)])
        conn.execute("SET LOCAL max_parallel_maintenance_workers = 0")  # the crew is that many already
        with database.store_path(conn, database.path_of(conn, live.schema)):
            conn.execute(shadow.index_on(definition, live.ours))


def _doubled(crew: Crew, conn: Connection, live: Live, error: errors.UniqueViolation) -> NotAsRehearsed:
    """Return why a key was copied twice: two rows of the table have it, or its index led to one row twice."""
    with crew.transaction(conn, live.schema):
        fault = damage.twins(conn, live)
    detail = (error.diag.message_detail or error.diag.message_primary or "").removesuffix(".")
    return damage.refusal(live, fault) if fault else damage.led_twice(live, detail)


def _make_primary(crew: Crew, live: Live, name: str) -> None:
    made = "SELECT FROM pg_catalog.pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'"
    conn = crew.conns[0]
    if database.ask(conn, made, [f"{live.ours}.{ROWS}"]):
        return
    with crew.transaction(conn, live.schema):
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}")
        conn.execute(add.format(sql.Identifier(live.ours, ROWS), sql.Identifier(name), sql.Identifier(name)))
        for statement in live.dress.late:
            conn.execute(statement.encode())

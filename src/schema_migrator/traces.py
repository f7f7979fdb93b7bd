"""The traces of an online rewrite: schemas that are ours by their names and their comments, and nothing else.

Nothing there bears a vendor's table name: the files look tables up by their names alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql

from schema_migrator.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.database import Connection

TRIGGER = "schema_migrator_log"
ROWS = "schema_migrator_shadow"
"""The name under which the new table stands until the swap."""
US = "temporal-schema-migrator"
ONLINE, RETIRED = "schema_migrator_online_", "schema_migrator_retired_"
LEFTOVERS: LiteralString = r"""
ARRAY(SELECT json_build_object('name', nspname, 'oid', oid, 'says', obj_description(oid, 'pg_namespace'),
    'filled', EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid
      AND c.relname = 'schema_migrator_shadow'))::text
  FROM pg_catalog.pg_namespace n WHERE nspname ~ '^schema_migrator_(online|retired)_[0-9]+$' ORDER BY nspname)
"""
"""The schemas that may be ours, with what their comments say; `leftovers` tells which are."""

_TABLES = "SELECT relname::text FROM pg_catalog.pg_class WHERE relnamespace = %s AND relkind = 'r' ORDER BY 1"
_FOREIGN = """
SELECT DISTINCT pg_describe_object(classid, objid, 0) FROM pg_catalog.pg_depend
WHERE refclassid = 'pg_catalog.pg_namespace'::regclass AND refobjid = %s ORDER BY 1
"""
_TRIGGERED = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
WHERE g.tgname = %s AND p.pronamespace = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A schema of ours: an unfinished rewrite, or the table that a finished one has replaced.

    `kept`: it is to stay; `finished`: the tables have been swapped; `fingerprint`: see shadow.Live.
    """

    name: str
    oid: int
    schema: str
    table: str
    target: str
    fingerprint: str
    kept: bool
    finished: bool

    @property
    def retired(self) -> bool:
        """Whether it holds the table that was replaced."""
        return self.name.startswith(RETIRED)

    @property
    def unfinished(self) -> bool:
        """Whether it is a rewrite whose tables have not been swapped."""
        return not self.finished


def leftovers(found: Sequence[str], schema: str | None) -> tuple[Leftover, ...]:
    """Return those of the schemas that LEFTOVERS found which are ours and belong to the tables of `schema`."""
    parsed = map(json.loads, found)
    ours = [(one, says) for one in parsed if (says := _says(one["says"])).get("by") == US]
    return tuple(
        Leftover(
            name=one["name"],
            oid=int(one["oid"]),
            schema=says["schema"],
            table=says["table"],
            target=says["target"],
            fingerprint=says["fingerprint"],
            kept=says["kept"],
            finished=one["name"].startswith(RETIRED) or not one["filled"],
        )
        for one, says in ours
        if says["schema"] == schema
    )


def _says(comment: str | None) -> dict[str, Any]:
    try:
        found = json.loads(comment or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def copied(conn: Connection, found: Leftover) -> int:
    """Return how many rows an unfinished rewrite has copied."""
    query = sql.SQL("SELECT coalesce(sum(rows), 0) FROM {}.batches").format(sql.Identifier(found.name))
    row = conn.execute(query).fetchone()
    return int(row[0]) if row else 0


def remove(conn: Connection, found: Leftover) -> None:
    """Remove a schema of ours with all that is ours in it, in a transaction; never with CASCADE.

    Raises RefusedError where somebody else has put something there.
    """
    ours = sql.Identifier(found.name)
    if not found.retired:
        trigger = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format
        for schema, table in conn.execute(_TRIGGERED, [TRIGGER, found.oid]).fetchall():
            conn.execute(trigger(sql.Identifier(TRIGGER), sql.Identifier(schema, table)))
    known = {found.name} if found.retired else {ROWS, "log", "batches"}
    tables = [name for (name,) in conn.execute(_TABLES, [found.oid]).fetchall()]
    for name in tables:
        if name in known:
            conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(found.name, name)))
    conn.execute(sql.SQL("DROP FUNCTION IF EXISTS {}.log()").format(ours))
    foreign = ", ".join(name for (name,) in conn.execute(_FOREIGN, [found.oid]).fetchall())
    if foreign:
        raise RefusedError(
            f'the schema "{found.name}", which an online rewrite has left, holds what is not ours: {foreign}',
            hint="move that elsewhere, then run this again",
        )
    conn.execute(sql.SQL("DROP SCHEMA {}").format(ours))

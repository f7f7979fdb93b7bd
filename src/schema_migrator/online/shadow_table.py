"""The shadow table, in a schema of its own: created like the live table, altered, and finally put in its place.

Filling it is in `backfill` and `replay`, its indexes are in `index_builds`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

from schema_migrator.catalog.leftovers import ROWS, TRIGGER, Comment
from schema_migrator.online import change_log, table_attributes
from schema_migrator.online.source_table import qualified
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.planning.plan import Online
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection


_DEFINITION = re.compile(
    r"""(?P<head>CREATE (UNIQUE )?INDEX ("([^"]|"")+"|[^" ]+) ON )(ONLY )?\S+(?P<rest> USING .*)""", re.DOTALL
)
_GRANTEES = """
SELECT DISTINCT CASE e.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(e.grantee)::text END
FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) e
WHERE n.nspname = %s AND e.grantee <> n.nspowner
"""
_OWNER = "SELECT pg_get_userbyid(relowner)::text FROM pg_catalog.pg_class WHERE oid = %s"
_CHECKS = """
SELECT c.conname::text, pg_get_constraintdef(c.oid, true) FROM pg_catalog.pg_constraint c
WHERE c.conrelid = %s AND c.contype = 'c' AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname = ANY (%s))
"""


def build(conn: Connection, live: SourceTable, online: Online, shape: TargetShape) -> None:
    """Create the empty shadow table, the change log and the list of batches; `change_log.watch` starts the logging.

    Like the live table, they are heap tables in the database's own tablespace, whatever the role's defaults are.
    """
    ours = sql.Identifier(live.ours)
    conn.execute(
        "SELECT set_config('default_tablespace', '', true), set_config('default_table_access_method', 'heap', true)"
    )
    _make_schema(conn, live.ours, live, online, kept=False)
    # An event trigger may give new tables to any role, which then needs rights in the schema. No other session sees
    # the schema before the commit.
    conn.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO PUBLIC").format(ours))
    _make_shadow(conn, live, shape)
    change_log.build(conn, live)
    _close(conn, live.ours)


def retire(conn: Connection, live: SourceTable, online: Online, *, kept: bool) -> None:
    """Exchange the tables, under the lock. Indexes and constraints move with their table and keep their names."""
    source, trigger = sql.Identifier(live.schema, live.table), sql.Identifier(TRIGGER)
    conn.execute(sql.SQL("DROP TRIGGER {} ON {}").format(trigger, source))
    _make_schema(conn, live.retired, live, online, kept=kept)
    _close(conn, live.retired)
    # Tables are renamed in our own schemas: in the store's schema, another object may have such a name.
    conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(source, sql.Identifier(live.retired)))
    away = sql.Identifier(live.retired, live.table)
    conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(away, sql.Identifier(live.retired)))
    shadow = sql.Identifier(live.ours, ROWS)
    conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(shadow, sql.Identifier(live.table)))
    moved = sql.Identifier(live.ours, live.table)
    conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(moved, sql.Identifier(live.schema)))


def index_on(definition: str, schema: str) -> bytes:
    """Return the statement that creates an index, given its definition from a snapshot, on the shadow table.

    `schema` is that of the shadow table. A quoted name may contain anything (PostgreSQL's ruleutils.c writes the
    definition).
    """
    parts = _DEFINITION.fullmatch(definition)
    assert parts is not None, definition  # noqa: S101 - PostgreSQL writes all of them like this
    return f"{parts['head']}{schema}.{ROWS}{parts['rest']}".encode()  # schema and table are plain names of ours


def _make_schema(conn: Connection, name: str, live: SourceTable, online: Online, *, kept: bool) -> None:
    conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    comment = Comment(
        format=1,
        by="temporal-schema-migrator",
        schema=live.schema,
        table=live.table,
        target=str(online.versions[-1]),
        fingerprint=live.fingerprint,
        kept=kept,
    )
    conn.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(name), sql.Literal(comment.written())))


def _close(conn: Connection, name: str) -> None:
    """Revoke all rights on one of our schemas from all other roles, the table's owner and default privileges included.

    A role that reaches the shadow table or the change log could create a trigger on it, which our writes would run
    with our rights.
    """
    for (grantee,) in conn.execute(_GRANTEES, [name]).fetchall():
        revoke = sql.SQL("REVOKE ALL ON SCHEMA {} FROM {} CASCADE")
        who = sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
        conn.execute(revoke.format(sql.Identifier(name), who))


def _make_shadow(conn: Connection, live: SourceTable, shape: TargetShape) -> None:
    """Copy the live structure and alter it, under the vendor's table name, because PostgreSQL derives names from it."""
    shadow, source = sql.Identifier(live.ours, live.table), sql.Identifier(live.schema, live.table)
    like = "CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS EXCLUDING IDENTITY)"
    conn.execute(sql.SQL(like).format(shadow, source))
    changes = _changes(conn, live, shape)
    with transactions.store_path(conn, transactions.path_of(conn, live.schema)):
        for change in changes:
            conn.execute(sql.SQL("ALTER TABLE {} {}").format(shadow, change))
    conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(shadow, sql.Identifier(ROWS)))
    for (owner,) in conn.execute(_OWNER, [live.oid]).fetchall():
        grant = sql.SQL("GRANT CREATE, USAGE ON SCHEMA {} TO {}")
        conn.execute(grant.format(sql.Identifier(live.ours), sql.Identifier(owner)))
    table_attributes.apply(conn, live.attributes, qualified(conn, live.ours, ROWS))


def _changes(conn: Connection, live: SourceTable, shape: TargetShape) -> list[sql.Composable]:
    """Return the ALTER TABLE actions that turn a copy of the live structure into the new shape."""
    add = sql.SQL("ADD COLUMN {} {}")
    columns: list[sql.Composable] = [sql.SQL("DROP COLUMN {}").format(sql.Identifier(name)) for name in shape.gone]
    columns += [add.format(sql.Identifier(name), sql.SQL(text)) for name, text in shape.added]
    existing = dict(conn.execute(_CHECKS, [live.oid, list(shape.gone)]).fetchall())
    wanted = dict(shape.checks)
    checks: list[sql.Composable] = [
        sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(name)) for name in sorted(existing.keys() - wanted.keys())
    ]
    checks += [
        sql.SQL("ADD CONSTRAINT {} {}").format(sql.Identifier(name), sql.SQL(text))
        for name, text in shape.checks
        if name not in existing
    ]
    return [*columns, *checks]

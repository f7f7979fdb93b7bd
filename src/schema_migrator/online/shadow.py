"""The table that takes another one's place, and the log of what changes meanwhile, in a schema of their own."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from schema_migrator.catalog import snapshot
from schema_migrator.catalog.leftovers import ONLINE, RETIRED, ROWS, TRIGGER, Comment
from schema_migrator.catalog.snapshot import Key, table_of
from schema_migrator.online import catalog_comparison, table_attributes
from schema_migrator.online.table_attributes import Kept
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema_migrator.catalog.leftovers import Leftover
    from schema_migrator.online.catalog_comparison import Picture
    from schema_migrator.online.table_attributes import TableAttributes
    from schema_migrator.planning.plan import Online
    from schema_migrator.planning.rewrite_span import Named, TargetShape
    from schema_migrator.postgres.connection import Connection

_LOCATE = """
SELECT c.oid, c.relfilenode FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
_KEY = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place
"""
_PRIMARY = """
SELECT c.relname::text, pg_get_indexdef(c.oid, 0, true)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s AND i.indisprimary
"""
_STAYING = """
SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = '' OR %s)
  AND a.attname <> ALL (%s)
"""
_DEFINITION = re.compile(
    r"""(?P<head>CREATE (UNIQUE )?INDEX ("([^"]|"")+"|[^" ]+) ON )(ONLY )?\S+(?P<rest> USING .*)""", re.DOTALL
)
# Each change of the trigger gives its row another xmin, also one that is taken back; the function has the first one.
_WATCHED = """
SELECT g.tgenabled = 'A' AND g.xmin = p.xmin FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE g.tgrelid = %s AND g.tgname = %s AND n.nspname = %s
"""
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
# The owner's rights and a fixed search_path: the server's role may reach nothing here, and its writes go on.
_LOG = """
CREATE FUNCTION {ours}.log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS {body}
"""
# An event trigger may have given it away, or have hidden its rows.
_OURS: LiteralString = """
ALTER TABLE {} OWNER TO CURRENT_USER, DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY
"""
_LOG_BODY = """
BEGIN
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND ({new}) IS DISTINCT FROM ({old})) THEN
    INSERT INTO {ours}.log ({key}, schema_migrator_stays) VALUES ({old}, false);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO {ours}.log ({key}, schema_migrator_stays) VALUES ({new}, true);
  END IF;
  RETURN NULL;
END
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A table as it stands: where, its primary key (names and types), its picture and its fingerprint.

    The fingerprint changes with the table's file (TRUNCATE), its structure, and what it wears.
    """

    schema: str
    table: str
    oid: int
    key: tuple[Named, ...]
    attributes: TableAttributes
    picture: Picture
    fingerprint: str

    @property
    def ours(self) -> str:
        """Name of the schema where its rewrite stands."""
        return f"{ONLINE}{self.oid}"

    @property
    def retired(self) -> str:
        """Name of the schema where it stands after the swap."""
        return f"{RETIRED}{self.oid}"

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the primary key's columns."""
        return tuple(name for name, _ in self.key)


def locate(conn: Connection, schema: str, table: str) -> tuple[int, int] | None:
    """Return the number of a table and that of its file; None where it is gone."""
    row = conn.execute(_LOCATE, [schema, table]).fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def look(conn: Connection, schema: str, shape: TargetShape) -> SourceTable | None:
    """Look at the live table, in a transaction; None where it is gone."""
    found = locate(conn, schema, shape.table)
    if found is None:
        return None
    oid, file = found
    key = tuple((name, kind) for name, kind in conn.execute(_KEY, [oid]).fetchall())
    ours = f"{ONLINE}{oid}"
    answer = table_attributes.ask(conn, oid, _qualified(conn, ours, ROWS), ours, _kept(shape))
    taken, picture = snapshot.take(conn, schema), catalog_comparison.take(conn, oid)
    attributes = table_attributes.read(answer)
    own = sorted((key, text) for key, text in taken.objects.items() if table_of(key) == shape.table)
    told = repr(
        (oid, file, key, own, attributes, sorted(picture.items()), shape.added, shape.gone, shape.indexes, shape.checks)
    )
    fingerprint = hashlib.sha256(told.encode()).hexdigest()
    return SourceTable(
        schema=schema,
        table=shape.table,
        oid=oid,
        key=key,
        attributes=attributes,
        picture=picture,
        fingerprint=fingerprint,
    )


def _kept(shape: TargetShape) -> Kept:
    def names(kind: str, found: Iterable[Named]) -> tuple[str, ...]:
        return tuple(name for name, _ in found if Key(kind, shape.table, name) not in shape.touched)

    return Kept(gone=shape.gone, indexes=names("index", shape.indexes), checks=names("constraint", shape.checks))


def listed(names: Iterable[str], of: LiteralString | None = None) -> sql.Composed:
    """Return the list of columns for a statement, each of an alias if one is said."""
    plain = map(sql.Identifier, names)
    return sql.SQL(", ").join(plain if of is None else (sql.SQL("{}.{}").format(sql.SQL(of), name) for name in plain))


def places(live: SourceTable) -> dict[str, sql.Composable]:
    """Return what statements name: our schema, the shadow, the live table, and the list of the key's columns."""
    return {
        "ours": sql.Identifier(live.ours),
        "shadow": sql.Identifier(live.ours, ROWS),
        "live": sql.Identifier(live.schema, live.table),
        "key": listed(live.key_names),
    }


def watched(conn: Connection, live: SourceTable) -> bool:
    """Return whether the trigger that logs changes is there, ours, on, and has never been off."""
    row = conn.execute(_WATCHED, [live.oid, TRIGGER, live.ours]).fetchone()
    return row is not None and bool(row[0])


def continues(conn: Connection, live: SourceTable, found: Leftover) -> bool:
    """Return whether what an earlier run has begun is of the table as it is, and knows of every change since."""
    return (found.name, found.fingerprint) == (live.ours, live.fingerprint) and watched(conn, live)


def build(conn: Connection, live: SourceTable, online: Online, shape: TargetShape) -> None:
    """Make the empty shadow, the log of changes and the list of batches; `watch` fills the log.

    They stand where the table does, whatever the role's own defaults are.
    """
    ours = sql.Identifier(live.ours)
    conn.execute(
        "SELECT set_config('default_tablespace', '', true), set_config('default_table_access_method', 'heap', true)"
    )
    _make_schema(conn, live.ours, live, online, kept=False)
    # An event trigger may give new tables to any role, which then has to be allowed to have them; until the commit
    # nobody else sees the schema.
    conn.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO PUBLIC").format(ours))
    _make_shadow(conn, live, shape)
    # What cuts off a table's empty end locks it, and with it all who write to the live one.
    make_log = sql.SQL(
        "CREATE TABLE {ours}.log WITH (vacuum_truncate = false) AS SELECT {key} FROM {live} WITH NO DATA"
    )
    conn.execute(make_log.format(**places(live)))
    turn = (
        "ALTER TABLE {}.log ADD COLUMN schema_migrator_turn bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " ADD COLUMN schema_migrator_stays boolean NOT NULL"
    )
    conn.execute(sql.SQL(turn).format(ours))
    batches = "CREATE TABLE {}.batches (number int PRIMARY KEY, after text[], upto text[], rows bigint)"
    conn.execute(sql.SQL(batches).format(ours))
    for table in ("log", "batches"):
        conn.execute(sql.SQL(_OURS).format(sql.Identifier(live.ours, table)))
    conn.execute(_log_function(conn, live))
    _close(conn, live.ours)


def watch(conn: Connection, live: SourceTable) -> None:
    """Log every change of the live table from now on, whatever session_replication_role its writer has."""
    source, trigger = sql.Identifier(live.schema, live.table), sql.Identifier(TRIGGER)
    create = "CREATE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {}.log()"
    conn.execute(sql.SQL(create).format(trigger, source, sql.Identifier(live.ours)))
    conn.execute(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(source, trigger))


def try_log(conn: Connection, live: SourceTable) -> None:
    """Log one key and take it back, in the open transaction: what an event trigger has done to the log shows here.

    If it failed in the trigger, each write to the live table would fail with it. Raises psycopg.Error.
    """
    log = "INSERT INTO {ours}.log ({key}, schema_migrator_stays) SELECT {key}, true FROM {live} LIMIT 1"
    conn.execute("SAVEPOINT schema_migrator_log")
    conn.execute(sql.SQL(log).format(**places(live)))
    conn.execute(sql.SQL("INSERT INTO {ours}.batches VALUES (-1, NULL, NULL, NULL)").format(**places(live)))
    conn.execute("ROLLBACK TO SAVEPOINT schema_migrator_log")
    conn.execute("RELEASE SAVEPOINT schema_migrator_log")


def columns(conn: Connection, live: SourceTable, shape: TargetShape, *, computed: bool) -> tuple[str, ...]:
    """Return the columns that stay, those that are computed only if wanted."""
    added = [name for name, _ in shape.added]
    ((found,),) = transactions.ask(conn, _STAYING, [_qualified(conn, live.ours, ROWS), computed, added])
    return tuple(found)


def primary(conn: Connection, live: SourceTable) -> Named:
    """Return the primary key's index: its name and its definition."""
    ((name, definition),) = transactions.ask(conn, _PRIMARY, [live.oid])
    return name, snapshot.local(definition, live.schema)


def retire(conn: Connection, live: SourceTable, online: Online, *, kept: bool) -> None:
    """Swap the tables, under the lock: names of indexes and constraints go along with each, and none changes."""
    source, trigger = sql.Identifier(live.schema, live.table), sql.Identifier(TRIGGER)
    conn.execute(sql.SQL("DROP TRIGGER {} ON {}").format(trigger, source))
    _make_schema(conn, live.retired, live, online, kept=kept)
    _close(conn, live.retired)
    # Renamed in our own schemas: in the store's, a name of ours may be anybody's.
    conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(source, sql.Identifier(live.retired)))
    away = sql.Identifier(live.retired, live.table)
    conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(away, sql.Identifier(live.retired)))
    shadow = sql.Identifier(live.ours, ROWS)
    conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(shadow, sql.Identifier(live.table)))
    moved = sql.Identifier(live.ours, live.table)
    conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(moved, sql.Identifier(live.schema)))


def index_on(definition: str, schema: str) -> bytes:
    """Return the statement that makes an index, of which a snapshot has the definition, on the shadow in `schema`.

    A quoted name may hold anything (PostgreSQL's ruleutils.c writes the definition).
    """
    made = _DEFINITION.fullmatch(definition)
    assert made is not None, definition  # noqa: S101 - so PostgreSQL writes all of them
    return f"{made['head']}{schema}.{ROWS}{made['rest']}".encode()  # both are plain names of ours


def _make_schema(conn: Connection, name: str, live: SourceTable, online: Online, *, kept: bool) -> None:
    conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    says = Comment(
        format=1,
        by="temporal-schema-migrator",
        schema=live.schema,
        table=live.table,
        target=str(online.versions[-1]),
        fingerprint=live.fingerprint,
        kept=kept,
    )
    conn.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(name), sql.Literal(says.written())))


def _close(conn: Connection, name: str) -> None:
    """Take every right to a schema of ours from everybody but us, the table's owner and default privileges included.

    Who reaches the shadow or the log could put a trigger on it, which our writes would run with our rights.
    """
    for (grantee,) in conn.execute(_GRANTEES, [name]).fetchall():
        revoke = sql.SQL("REVOKE ALL ON SCHEMA {} FROM {} CASCADE")
        who = sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
        conn.execute(revoke.format(sql.Identifier(name), who))


def _make_shadow(conn: Connection, live: SourceTable, shape: TargetShape) -> None:
    """Copy the live structure and change it, still under the vendor's name, from which PostgreSQL makes others."""
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
    table_attributes.apply(conn, live.attributes, _qualified(conn, live.ours, ROWS))


def _changes(conn: Connection, live: SourceTable, shape: TargetShape) -> list[sql.Composable]:
    """Return what is to be altered in a copy of the live structure."""
    add = sql.SQL("ADD COLUMN {} {}")
    columns: list[sql.Composable] = [sql.SQL("DROP COLUMN {}").format(sql.Identifier(name)) for name in shape.gone]
    columns += [add.format(sql.Identifier(name), sql.SQL(text)) for name, text in shape.added]
    here = dict(conn.execute(_CHECKS, [live.oid, list(shape.gone)]).fetchall())
    wanted = dict(shape.checks)
    checks: list[sql.Composable] = [
        sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(name)) for name in sorted(here.keys() - wanted.keys())
    ]
    checks += [
        sql.SQL("ADD CONSTRAINT {} {}").format(sql.Identifier(name), sql.SQL(text))
        for name, text in shape.checks
        if name not in here
    ]
    return [*columns, *checks]


def _log_function(conn: Connection, live: SourceTable) -> sql.Composed:
    old, new = listed(live.key_names, "OLD"), listed(live.key_names, "NEW")
    body = sql.SQL(_LOG_BODY).format(**places(live), old=old, new=new)
    return sql.SQL(_LOG).format(**places(live), body=sql.Literal(body.as_string(conn)))


def _qualified(conn: Connection, schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string(conn)

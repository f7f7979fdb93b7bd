"""What is known of a store's tables beside their structure: their sizes, and what forbids an online rewrite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator import database

if TYPE_CHECKING:
    from schema_migrator.database import Connection

_SIZES = """
SELECT c.relname::text, pg_catalog.pg_total_relation_size(c.oid) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'
"""
# Whatever would stay with the old table, or that a copy of the rows in another order could break.
_HINDRANCES = """
WITH t AS (
  SELECT c.* FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %s AND c.relkind = 'r'
), x AS (
  SELECT i.indrelid, i.indisunique AND NOT i.indisprimary AS is_unique, ic.relname, ic.reltablespace, ic.oid,
    i.indisprimary AND NOT i.indimmediate AS late
  FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
)
SELECT relname::text AS name, 'no primary key' AS what FROM t
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid AND i.indisprimary)
UNION ALL SELECT t.relname, 'trigger "' || g.tgname || '"' FROM t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid
  WHERE NOT g.tgisinternal AND g.tgname <> 'schema_migrator_log'
UNION ALL SELECT relname, 'row level security' FROM t WHERE relrowsecurity OR relforcerowsecurity
UNION ALL SELECT t.relname, 'policy "' || p.polname || '"' FROM t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid
UNION ALL SELECT t.relname, 'rule "' || r.rulename || '"' FROM t JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.oid
UNION ALL SELECT t.relname, 'foreign key "' || c.conname || '"' FROM t
  JOIN pg_catalog.pg_constraint c ON t.oid IN (c.conrelid, c.confrelid) WHERE c.contype = 'f'
UNION ALL SELECT t.relname, 'inheritance' FROM t
  WHERE EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE t.oid IN (i.inhrelid, i.inhparent))
UNION ALL SELECT t.relname, 'publication "' || p.pubname || '"' FROM t JOIN pg_catalog.pg_publication p
  ON p.puballtables OR EXISTS (
    SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prrelid = t.oid AND r.prpubid = p.oid)
    OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = to_regclass('pg_catalog.pg_publication_namespace')
      AND d.refclassid = 'pg_catalog.pg_publication'::regclass AND d.refobjid = p.oid)
UNION ALL SELECT t.relname, 'unique index "' || x.relname || '"' FROM t JOIN x ON x.indrelid = t.oid WHERE x.is_unique
UNION ALL SELECT t.relname, 'deferrable primary key' FROM t JOIN x ON x.indrelid = t.oid WHERE x.late
UNION ALL SELECT t.relname, 'exclusion constraint "' || c.conname || '"' FROM t
  JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid WHERE c.contype = 'x'
UNION ALL SELECT t.relname, 'constraint "' || c.conname || '" that was not validated' FROM t
  JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid WHERE c.contype IN ('c', 'n') AND NOT c.convalidated
UNION ALL SELECT t.relname, 'statistics "' || s.stxname || '"' FROM t
  JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = t.oid
UNION ALL SELECT t.relname, 'security label' FROM t WHERE EXISTS (SELECT FROM pg_catalog.pg_seclabel l
  WHERE l.classoid = 'pg_catalog.pg_class'::regclass AND l.objoid = t.oid)
UNION ALL SELECT relname, 'unlogged' FROM t WHERE relpersistence <> 'p'
UNION ALL SELECT relname, 'made of a type' FROM t WHERE reloftype <> 0
UNION ALL SELECT relname, 'tablespace of its own' FROM t
  WHERE reltablespace <> 0 OR EXISTS (SELECT FROM x WHERE x.indrelid = t.oid AND x.reltablespace <> 0)
UNION ALL SELECT t.relname, 'sequence of column "' || a.attname || '"' FROM t
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.oid
    AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
  JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
UNION ALL SELECT t.relname, 'statistics target of index "' || x.relname || '"' FROM t JOIN x ON x.indrelid = t.oid
  WHERE EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.oid AND a.attstattarget > 0)
UNION ALL SELECT relname, 'lack of a right to it: ' || p FROM t, unnest('{SELECT,TRIGGER}'::text[]) p
  WHERE NOT has_table_privilege(t.oid, p)
UNION ALL SELECT t.relname, 'rights granted by "' || pg_get_userbyid(g.grantor) || '"' FROM t
  CROSS JOIN LATERAL aclexplode(t.relacl) g WHERE g.grantor <> t.relowner
UNION ALL SELECT t.relname, pg_describe_object(d.classid, d.objid, 0) FROM t
  JOIN pg_catalog.pg_type y ON y.oid = t.reltype
  JOIN pg_catalog.pg_depend d ON d.deptype = 'n' AND (
    (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.oid)
    OR (d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid IN (y.oid, y.typarray)))
  WHERE d.classid NOT IN ('pg_catalog.pg_constraint'::regclass, 'pg_catalog.pg_policy'::regclass)
    AND NOT (d.classid = 'pg_catalog.pg_attrdef'::regclass
      AND EXISTS (SELECT FROM pg_catalog.pg_attrdef f WHERE f.oid = d.objid AND f.adrelid = t.oid))
    AND NOT (d.classid = 'pg_catalog.pg_rewrite'::regclass
      AND EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.oid = d.objid AND r.ev_class = t.oid))
    AND NOT (d.classid = 'pg_catalog.pg_class'::regclass
      AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = d.objid))
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table: its bytes with its indexes, and what keeps it from being written anew online."""

    size: int
    hindrances: tuple[str, ...] = ()


def read(conn: Connection, schema: str) -> dict[str, Table]:
    """Return the tables of a schema by name. One that somebody keeps locked raises LockNotAvailable."""
    with database.transaction(conn, schema, database.LOOK, name=database.APPLICATION):
        sizes = conn.execute(_SIZES, [schema]).fetchall()
        reasons = hindrances(conn, schema)
    return {name: Table(size=size, hindrances=reasons.get(name, ())) for name, size in sizes}


def hindrances(conn: Connection, schema: str) -> dict[str, tuple[str, ...]]:
    """Return what keeps tables of a schema from being written anew online, by their names."""
    found: dict[str, dict[str, None]] = {}
    for name, what in conn.execute(_HINDRANCES, [schema]).fetchall():
        found.setdefault(name, {})[what] = None
    return {name: tuple(reasons) for name, reasons in found.items()}

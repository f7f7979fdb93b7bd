"""Finds the blockers of an online rewrite: everything that would stay with the old table, or that a copy could break.

Each kind of blocker is a query. Its key is the one that the register of the catalogs (table_register) uses for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, LiteralString

from schema_migrator.catalog.leftovers import OUR_TRIGGER
from schema_migrator.catalog.table_register import CATALOGS, REFERENCED, REGISTER

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

_FIRST_THAT_LISTS_REFERENCES = 140000
# pg_identify_object qualifies the names, whatever the search_path is.
_SOURCES: LiteralString = """
WITH t AS MATERIALIZED (
  SELECT c.* FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE (n.nspname = %(schema)s OR c.oid = ANY (%(oids)s::oid[])) AND c.relkind = 'r'
), x AS MATERIALIZED (
  SELECT t.relname AS name, i.*, ic.relname, ic.reltablespace
  FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
), k AS MATERIALIZED (
  SELECT t.relname AS name, c.* FROM t JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid
)
"""
BLOCKERS: Mapping[str, LiteralString] = {
    "access_method": """
SELECT t.relname::text, format('access method "%%s"', m.amname) FROM t JOIN pg_catalog.pg_am m ON m.oid = t.relam
WHERE m.amname <> 'heap'
""",
    "deferrable_key": "SELECT name, 'deferrable primary key' FROM x WHERE indisprimary AND NOT indimmediate",
    # A default or check of the table itself counts only if it refers to the table as a whole.
    "dependent": """
SELECT t.relname, o.type || ' ' || o.identity
FROM t JOIN pg_catalog.pg_type y ON y.oid = t.reltype
CROSS JOIN LATERAL (VALUES ('pg_catalog.pg_class'::regclass, t.oid), ('pg_catalog.pg_type'::regclass, y.oid),
  ('pg_catalog.pg_type'::regclass, y.typarray)) AS r (class, oid)
JOIN pg_catalog.pg_depend d ON d.refclassid = r.class AND d.refobjid = r.oid AND d.deptype = 'n'
LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_catalog.pg_constraint c ON d.classid = 'pg_catalog.pg_constraint'::regclass AND c.oid = d.objid
LEFT JOIN pg_catalog.pg_policy p ON d.classid = 'pg_catalog.pg_policy'::regclass AND p.oid = d.objid
LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_catalog.pg_inherits i ON d.classid = 'pg_catalog.pg_class'::regclass AND i.inhrelid = d.objid
  AND i.inhparent = t.oid
CROSS JOIN LATERAL pg_identify_object(
  CASE WHEN w.rulename = '_RETURN' THEN 'pg_catalog.pg_class'::regclass ELSE d.classid END,
  CASE WHEN w.rulename = '_RETURN' THEN w.ev_class ELSE d.objid END,
  CASE WHEN d.classid = 'pg_catalog.pg_class'::regclass THEN d.objsubid ELSE 0 END) o
WHERE w.ev_class IS DISTINCT FROM t.oid AND c.contype IS DISTINCT FROM 'f' AND p.polrelid IS DISTINCT FROM t.oid
  AND i.inhrelid IS NULL AND (coalesce(f.adrelid, c.conrelid) IS DISTINCT FROM t.oid OR d.refobjsubid = 0)
""",
    "dropped_index": """SELECT name, format('index "%%s", half dropped', relname) FROM x WHERE NOT indislive""",
    "exclusion": """
SELECT name, format('exclusion constraint "%%s"', relname) FROM x WHERE indisexclusion
""",
    "extension": """
SELECT t.relname, format(CASE d.deptype WHEN 'e' THEN 'its membership in extension "%%s"'
  ELSE 'dependence on extension "%%s"' END, e.extname)
FROM t CROSS JOIN LATERAL (SELECT t.oid UNION ALL SELECT x.indexrelid FROM x WHERE x.indrelid = t.oid) AS r (oid)
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = r.oid
  AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype IN ('e', 'x')
JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
""",
    "foreign_key": """
SELECT t.relname, format('foreign key "%%s"', c.conname) FROM t
JOIN pg_catalog.pg_constraint c ON t.oid IN (c.conrelid, c.confrelid) WHERE c.contype = 'f'
""",
    "granted_by_others": """
SELECT t.relname, format('rights granted by "%%s"', pg_get_userbyid(g.grantor)) FROM t
CROSS JOIN LATERAL (SELECT t.relacl UNION ALL
  SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND NOT a.attisdropped) AS r (acl)
CROSS JOIN LATERAL aclexplode(r.acl) g WHERE g.grantor <> t.relowner
""",
    "index_tablespace": """
SELECT name, format('index "%%s" in tablespace "%%s", where our role may not create', relname, s.spcname)
FROM x JOIN pg_catalog.pg_tablespace s ON s.oid = x.reltablespace
WHERE NOT has_tablespace_privilege(s.oid, 'CREATE')
""",
    "inheritance": """
SELECT relname, 'inheritance' FROM t
WHERE relispartition OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE t.oid IN (i.inhrelid, i.inhparent))
""",
    "initial_rights": """
SELECT relname, 'rights that an extension or initdb gave' FROM t WHERE EXISTS (SELECT FROM pg_catalog.pg_init_privs p
  WHERE (p.classoid, p.objoid) IN (
    ('pg_catalog.pg_class'::regclass, t.oid), ('pg_catalog.pg_type'::regclass, t.reltype)))
""",
    # Our statements compare keys only with PostgreSQL's own operators.
    "key_type": """
SELECT name, format('key column "%%s" of type %%I.%%I', a.attname, n.nspname, y.typname) FROM x
JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey::int2[])
JOIN pg_catalog.pg_type y ON y.oid = a.atttypid JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace
WHERE x.indisprimary AND n.nspname <> 'pg_catalog'
""",
    "label": """
SELECT relname, 'security label' FROM t WHERE EXISTS (SELECT FROM pg_catalog.pg_seclabel l
  WHERE (l.classoid, l.objoid) IN (
    ('pg_catalog.pg_class'::regclass, t.oid), ('pg_catalog.pg_type'::regclass, t.reltype)))
""",
    "lost_identity": """
SELECT relname, 'replica identity by an index that was dropped' FROM t
WHERE relreplident = 'i' AND NOT EXISTS (SELECT FROM x WHERE x.indrelid = t.oid AND x.indisreplident)
""",
    "missing_right": """
SELECT t.relname, format('lack of a right to it: %%s', p) FROM t, unnest('{SELECT,TRIGGER}'::text[]) p
WHERE NOT has_table_privilege(t.oid, p)
""",
    "no_key": """
SELECT relname, 'no primary key' FROM t WHERE NOT EXISTS (SELECT FROM k WHERE conrelid = t.oid AND contype = 'p')
""",
    "not_validated": """
SELECT name, format('constraint "%%s", which is not validated', conname) FROM k
WHERE contype <> 'f' AND NOT convalidated
""",
    "policy": """
SELECT t.relname, format('policy "%%s"', p.polname) FROM t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid
""",
    "publication": """
SELECT t.relname, format('publication "%%s"', p.pubname) FROM t JOIN pg_catalog.pg_publication p ON p.puballtables
  OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prrelid = t.oid AND r.prpubid = p.oid)
  OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = to_regclass('pg_catalog.pg_publication_namespace')
    AND d.refclassid = 'pg_catalog.pg_publication'::regclass AND d.refobjid = p.oid)
""",
    "row_security": "SELECT relname, 'row-level security' FROM t WHERE relrowsecurity OR relforcerowsecurity",
    "row_type_rights": """
SELECT t.relname, 'rights to its row type' FROM t JOIN pg_catalog.pg_type y ON y.oid = t.reltype
WHERE y.typacl IS NOT NULL
""",
    "rule": """
SELECT t.relname, format('rule "%%s"', r.rulename) FROM t JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.oid
""",
    "sequence": """
SELECT t.relname, format('sequence of column "%%s"', a.attname) FROM t
CROSS JOIN LATERAL (SELECT d.objid, d.refobjsubid FROM pg_catalog.pg_depend d
  WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.oid AND d.refobjsubid > 0
    AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i') OFFSET 0) d
JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
""",
    "statistics": """
SELECT t.relname, format('extended statistics "%%s"', s.stxname) FROM t
JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = t.oid
""",
    # Every role may read pg_subscription_rel, but not pg_subscription.
    "subscription": """
SELECT t.relname,
  format('a subscription "%%s" replicates into it', coalesce((parse_ident(o.identity))[1], r.srsubid::text))
FROM t
JOIN pg_catalog.pg_subscription_rel r ON r.srrelid = t.oid
CROSS JOIN LATERAL pg_identify_object('pg_catalog.pg_subscription'::regclass, r.srsubid, 0) o
""",
    "tablespace": """
SELECT t.relname, format('its own tablespace "%%s"', s.spcname) FROM t
JOIN pg_catalog.pg_tablespace s ON s.oid = t.reltablespace
""",
    "trigger": f"""
SELECT t.relname, format('trigger "%%s"', g.tgname) FROM t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid
WHERE NOT g.tgisinternal AND NOT ({OUR_TRIGGER})
""",  # noqa: S608 - a constant
    "typed": """
SELECT t.relname, format('it is a table of type "%%s"', y.typname) FROM t
JOIN pg_catalog.pg_type y ON y.oid = t.reloftype
""",
    "unique_index": """
SELECT name, format('unique index "%%s"', relname) FROM x WHERE indisunique AND NOT indisprimary AND NOT indisexclusion
""",
    "unlogged": "SELECT relname, 'unlogged' FROM t WHERE relpersistence <> 'p'",
    # The text of such an expression contains the table's name, or PostgreSQL's own number for it.
    "whole_row": """
SELECT name, format('index "%%s" of whole rows', relname) FROM x
WHERE concat(indexprs::text, indpred::text) ~ ':varattno (0|-)'
UNION ALL SELECT name, format('constraint "%%s" of whole rows', conname) FROM k WHERE conbin::text ~ ':varattno (0|-)'
""",
}
"""For each key, the query that finds its blockers: the table's name, and the blocker in words."""
_QUERY: LiteralString = _SOURCES + "\nUNION ALL ".join(BLOCKERS.values()) + "\nORDER BY 1, 2"
_COLUMNS: LiteralString = """
SELECT c.relname || '.' || a.attname AS name FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname = ANY (%(catalogs)s)
"""
_REFERENCES: LiteralString = """
UNION SELECT c.relname || '.' || r.name FROM pg_catalog.pg_get_catalog_foreign_keys() f
JOIN pg_catalog.pg_class c ON c.oid = f.fktable JOIN pg_catalog.pg_class p ON p.oid = f.pktable,
  unnest(f.fkcols) AS r (name)
WHERE p.relname = ANY (%(referenced)s)
"""


def find(conn: Connection, schema: str | None = None, oids: Sequence[int] = ()) -> dict[str, tuple[str, ...]]:
    """Return the blockers by table name, for the tables of a schema or for tables (with different names) by oid."""
    blockers: dict[str, dict[str, None]] = {}
    for name, blocker in conn.execute(_QUERY, {"schema": schema, "oids": list(oids)}).fetchall():
        blockers.setdefault(name, {})[blocker] = None
    return {name: tuple(each) for name, each in blockers.items()}


def unknown(conn: Connection) -> tuple[str, ...]:
    """Return a blocker for each property of tables that this server has but the register lacks."""
    lists = conn.info.server_version >= _FIRST_THAT_LISTS_REFERENCES
    query: LiteralString = _COLUMNS + _REFERENCES if lists else _COLUMNS
    values = {"catalogs": list(CATALOGS), "referenced": list(REFERENCED)}
    properties = {name for (name,) in conn.execute(query, values).fetchall()}
    major = conn.info.server_version // 10000
    return tuple(
        f"PostgreSQL {major} has {name}, which this version of the program does not know"
        for name in sorted(properties - {entry.name for entry in REGISTER})
    )

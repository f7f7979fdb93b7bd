-- Objects that DROP COLUMN and DROP TABLE drop too, even without CASCADE (PostgreSQL: ALTER TABLE, DROP COLUMN).
WITH dropped AS (
  SELECT t.oid, t.relname::text AS name, a.attnum, d.attname IS NULL AS whole
  FROM unnest(:'tables'::text[], :'columns'::text[]) AS d(relname, attname)
  JOIN pg_catalog.pg_class t ON t.relname = d.relname
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace AND n.nspname = :'schema'
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = d.attname
), hanging AS (
  SELECT d.name, p.classid, p.objid, p.objsubid FROM dropped d JOIN pg_catalog.pg_depend p
    ON p.refobjid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::regclass
  WHERE p.deptype = 'a' AND (d.whole OR p.refobjsubid = d.attnum)
)
SELECT 'index', h.name, i.relname::text FROM hanging h JOIN pg_catalog.pg_class i ON i.oid = h.objid
WHERE h.classid = 'pg_catalog.pg_class'::regclass AND i.relkind = 'i'
UNION SELECT 'constraint', h.name, c.conname::text FROM hanging h JOIN pg_catalog.pg_constraint c ON c.oid = h.objid
WHERE h.classid = 'pg_catalog.pg_constraint'::regclass AND c.contype <> 'n'
UNION SELECT 'statistics', h.name, s.stxname::text FROM hanging h
JOIN pg_catalog.pg_statistic_ext s ON s.oid = h.objid WHERE h.classid = 'pg_catalog.pg_statistic_ext'::regclass
UNION SELECT 'column', d.name, a.attname::text FROM dropped d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE d.whole
UNION SELECT 'column', h.name, a.attname::text FROM hanging h
JOIN pg_catalog.pg_attribute a ON a.attrelid = h.objid AND a.attnum = h.objsubid AND NOT a.attisdropped
WHERE h.classid = 'pg_catalog.pg_class'::regclass AND a.attgenerated <> ''
UNION SELECT 'column', h.name, a.attname::text FROM hanging h JOIN pg_catalog.pg_attrdef f ON f.oid = h.objid
JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
WHERE h.classid = 'pg_catalog.pg_attrdef'::regclass AND a.attgenerated <> ''
UNION SELECT 'rule', h.name, r.rulename::text FROM hanging h JOIN pg_catalog.pg_rewrite r ON r.oid = h.objid
WHERE h.classid = 'pg_catalog.pg_rewrite'::regclass
UNION SELECT 'policy', h.name, p.polname::text FROM hanging h JOIN pg_catalog.pg_policy p ON p.oid = h.objid
WHERE h.classid = 'pg_catalog.pg_policy'::regclass
UNION SELECT 'trigger', h.name, g.tgname::text FROM hanging h JOIN pg_catalog.pg_trigger g ON g.oid = h.objid
WHERE h.classid = 'pg_catalog.pg_trigger'::regclass AND NOT g.tgisinternal;

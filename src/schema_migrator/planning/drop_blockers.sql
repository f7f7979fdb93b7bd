-- Objects because of which PostgreSQL refuses to drop a table or column, or to change a column's type.
WITH wanted AS (
  SELECT t.oid, t.reltype, t.relname::text AS name, a.attnum, d.attname, d.goes
  FROM unnest(:'tables'::text[], :'columns'::text[], :'dropped'::bool[]) AS d(relname, attname, goes)
  JOIN pg_catalog.pg_class t ON t.relname = d.relname
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace AND n.nspname = :'schema'
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = d.attname
), hanging AS (
  SELECT d.*, p.classid, p.objid, p.objsubid FROM wanted d JOIN pg_catalog.pg_depend p ON (
      p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = d.oid
      AND (d.attname IS NULL OR p.refobjsubid = d.attnum))
    OR (d.attname IS NULL AND p.refclassid = 'pg_catalog.pg_type'::regclass AND p.refobjid = d.reltype)
  WHERE (d.goes AND p.deptype = 'n' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend o
      WHERE o.classid = p.classid AND o.objid = p.objid AND o.refobjid = d.oid AND o.deptype IN ('a', 'i')))
    OR (NOT d.goes AND (
      p.classid = ANY ('{pg_rewrite,pg_policy,pg_trigger,pg_proc,pg_publication_rel}'::regclass[])
      OR (p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = d.oid AND p.objsubid > 0)
      OR EXISTS (SELECT FROM pg_catalog.pg_attrdef f WHERE p.classid = 'pg_catalog.pg_attrdef'::regclass
        AND f.oid = p.objid AND (f.adrelid, f.adnum) <> (d.oid, d.attnum))))
)
SELECT DISTINCT h.name, h.attname, coalesce(
    (SELECT pg_describe_object('pg_catalog.pg_class'::regclass, r.ev_class, 0) FROM pg_catalog.pg_rewrite r
      WHERE h.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = h.objid AND r.ev_class <> h.oid),
    pg_describe_object(h.classid, h.objid, h.objsubid))
FROM hanging h WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
  WHERE h.classid = 'pg_catalog.pg_constraint'::regclass AND c.oid = h.objid AND c.conrelid = h.oid)
ORDER BY 1, 2, 3;

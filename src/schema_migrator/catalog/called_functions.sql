-- Functions that the parts of a table call, and the roles that call them.
-- PostgreSQL checks EXECUTE when an expression calls a function, but not when an operator class does. C functions, and
-- bodies that were parsed when the function was created (PostgreSQL 14), look nothing up by search_path.
WITH part (what, class, id) AS (
  SELECT format('index "%s"', c.relname), 'pg_catalog.pg_class'::regclass, c.oid
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  WHERE i.indrelid = :'table' AND (i.indisprimary OR c.relname = ANY (:'indexes'))
  UNION ALL SELECT format('check "%s"', conname), 'pg_catalog.pg_constraint'::regclass, oid
  FROM pg_catalog.pg_constraint WHERE conrelid = :'table' AND contype = 'c' AND conname = ANY (:'checks')
  UNION ALL SELECT format('column "%s"', a.attname), 'pg_catalog.pg_attrdef'::regclass, d.oid
  FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  WHERE d.adrelid = :'table' AND a.attgenerated <> '' AND a.attname <> ALL (:'gone')
  UNION ALL SELECT format('the type of column "%s"', a.attname), 'pg_catalog.pg_constraint'::regclass, c.oid
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_constraint c ON c.contypid = a.atttypid
  WHERE a.attrelid = :'table' AND NOT a.attisdropped AND a.attname <> ALL (:'gone')
), used AS (
  SELECT p.what, d.refclassid, d.refobjid FROM part p
  JOIN pg_catalog.pg_depend d ON d.classid = p.class AND d.objid = p.id
), called (what, id, expressed) AS (
  SELECT what, refobjid, true FROM used WHERE refclassid = 'pg_catalog.pg_proc'::regclass
  UNION SELECT u.what, o.oprcode, true FROM used u JOIN pg_catalog.pg_operator o ON o.oid = u.refobjid
  WHERE u.refclassid = 'pg_catalog.pg_operator'::regclass
  UNION SELECT u.what, s.amproc, false FROM used u JOIN pg_catalog.pg_opclass k ON k.oid = u.refobjid
  JOIN pg_catalog.pg_amproc s ON s.amprocfamily = k.opcfamily
  WHERE u.refclassid = 'pg_catalog.pg_opclass'::regclass
)
SELECT c.what, p.oid::regprocedure::text AS function, r.rolname::text AS role,
  NOT c.expressed OR has_function_privilege(r.oid, p.oid, 'EXECUTE') AS allowed,
  l.lanname IN ('internal', 'c') OR to_jsonb(p) ->> 'prosqlbody' IS NOT NULL
    OR (n.nspname = :'schema' AND p.proname = ANY (:'vendors'))
    OR EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search\_path=%') AS settled,
  o.rolname::text AS owner, r.rolsuper AND NOT o.rolsuper AND NOT p.prosecdef AND l.lanname <> 'c'
    AND NOT (n.nspname = :'schema' AND p.proname = ANY (:'vendors')) AS endangered
FROM called c JOIN pg_catalog.pg_proc p ON p.oid = c.id JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
CROSS JOIN (SELECT oid, rolname, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user
  OR oid = (SELECT relowner FROM pg_catalog.pg_class WHERE oid = :'table')) r
WHERE n.nspname <> 'pg_catalog' ORDER BY 1, 2, 3;

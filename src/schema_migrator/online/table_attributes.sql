-- Statements that give another table the attributes which LIKE does not copy.
-- Column options that begin with pg_ are PostgreSQL's own and cannot be set.
-- Turns: 0 the owner, 1 what needs no indexes, 2 what needs them.
WITH t AS (SELECT * FROM pg_catalog.pg_class WHERE oid = :'oid'),
a AS (
  SELECT a.attname, a.attacl, a.attoptions, a.attstattarget FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = :'oid' AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (:'gone')
), x AS (
  SELECT i.*, c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  WHERE i.indrelid = :'oid' AND (i.indisprimary OR c.relname = ANY (:'indexes'))
), k AS (
  SELECT c.* FROM pg_catalog.pg_constraint c
  WHERE c.conrelid = :'oid' AND (c.contype IN ('p', 'n') OR c.conname = ANY (:'checks'))
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute g
      WHERE g.attrelid = c.conrelid AND g.attnum = ANY (c.conkey) AND g.attname = ANY (:'gone'))
), rights AS (
  SELECT '' AS columns, e.* FROM t, aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) e
  UNION ALL SELECT format(' (%I)', a.attname), e.* FROM a, aclexplode(a.attacl) e
)
SELECT 0 AS turn, format('ALTER TABLE %s OWNER TO %I', :'to'::text, pg_get_userbyid(relowner)) AS statement FROM t
UNION ALL
SELECT 1, format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', :'to'::text)
UNION ALL
SELECT 1, format('GRANT %s%s ON TABLE %s TO %s%s', privilege_type, columns, :'to'::text,
  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM rights
UNION ALL
SELECT 1, format('ALTER TABLE %s SET (%s)', :'to'::text,
  string_agg(format('%s%I = %L', prefix, option_name, option_value), ', ' ORDER BY place))
FROM (
  SELECT '' AS prefix, o.* FROM t,
    pg_options_to_table(t.reloptions) WITH ORDINALITY o (option_name, option_value, place)
  UNION ALL SELECT 'toast.', o.* FROM t JOIN pg_catalog.pg_class s ON s.oid = t.reltoastrelid,
    pg_options_to_table(s.reloptions) WITH ORDINALITY o (option_name, option_value, place)
) options HAVING count(*) > 0
UNION ALL
SELECT 1, format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', :'to'::text, attname, attstattarget)
FROM a WHERE attstattarget >= 0
UNION ALL
SELECT 1, format('ALTER TABLE %s ALTER COLUMN %I SET (%I = %L)', :'to'::text, attname, option_name, option_value)
FROM a, pg_options_to_table(a.attoptions) WHERE left(option_name, 3) <> 'pg_'
UNION ALL
SELECT 1, format('COMMENT ON TABLE %s IS %L', :'to'::text, obj_description(oid, 'pg_class'))
FROM t WHERE obj_description(oid, 'pg_class') IS NOT NULL
UNION ALL
SELECT 1, format('COMMENT ON TYPE %s IS %L', :'to'::text, obj_description(reltype, 'pg_type'))
FROM t WHERE obj_description(reltype, 'pg_type') IS NOT NULL
UNION ALL
SELECT 2, format('COMMENT ON INDEX %I.%I IS %L', :'schema'::text, relname, obj_description(indexrelid, 'pg_class'))
FROM x WHERE obj_description(indexrelid, 'pg_class') IS NOT NULL
UNION ALL
SELECT CASE contype WHEN 'p' THEN 2 ELSE 1 END,
  format('COMMENT ON CONSTRAINT %I ON %s IS %L', conname, :'to'::text, obj_description(oid, 'pg_constraint'))
FROM k WHERE obj_description(oid, 'pg_constraint') IS NOT NULL
UNION ALL
SELECT 2, format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', :'schema'::text, relname, a.attnum,
  a.attstattarget)
FROM x JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indexrelid AND a.attstattarget >= 0
UNION ALL
SELECT 2, format('ALTER TABLE %s CLUSTER ON %I', :'to'::text, relname) FROM x WHERE indisclustered
UNION ALL
SELECT 2, format('ALTER TABLE %s REPLICA IDENTITY %s', :'to'::text, CASE relreplident WHEN 'f' THEN 'FULL'
  WHEN 'n' THEN 'NOTHING' ELSE (SELECT 'USING INDEX ' || quote_ident(relname) FROM x WHERE indisreplident) END)
FROM t WHERE relreplident IN ('f', 'n') OR EXISTS (SELECT FROM x WHERE indisreplident)
ORDER BY 1, 2;

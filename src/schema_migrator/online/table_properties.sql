-- Every property of a table, its columns, indexes and constraints, as JSON.
-- Column options that begin with pg_ are PostgreSQL's own: since November 2026 it keeps a version of the column there, by
-- which it recognises stored values of the row type that no longer fit. Tables that can have such values are not rewritten
-- online. Numbers of columns and indexes belong to one table only, so names and texts are compared instead. A new index
-- must be valid; an old invalid one counts as valid, because a rewrite in place would make it valid.
WITH t AS MATERIALIZED (SELECT * FROM pg_catalog.pg_class WHERE oid = :'oid'),
a AS MATERIALIZED (
  SELECT * FROM pg_catalog.pg_attribute WHERE attrelid = :'oid' AND attnum > 0 AND NOT attisdropped
)
SELECT 'table', '', to_jsonb(t) - :'pg_class'::text[] || jsonb_build_object(
  'columns', (SELECT jsonb_agg(attname ORDER BY attnum) FROM a),
  'rights', ARRAY(SELECT one::text FROM unnest(coalesce(relacl, acldefault('r', relowner))) one ORDER BY 1),
  'options', ARRAY(SELECT unnest(reloptions) ORDER BY 1),
  'comment', obj_description(t.oid, 'pg_class'), 'comment of the row type', obj_description(t.reltype, 'pg_type'),
  'options of its TOAST table', ARRAY(SELECT unnest(s.reloptions) FROM pg_catalog.pg_class s
    WHERE s.oid = t.reltoastrelid ORDER BY 1)
) FROM t
UNION ALL
SELECT 'column', a.attname, to_jsonb(a) - :'pg_attribute'::text[] || jsonb_build_object(
  'default', pg_get_expr(d.adbin, d.adrelid), 'comment', col_description(a.attrelid, a.attnum),
  'rights', ARRAY(SELECT one::text FROM unnest(a.attacl) one ORDER BY 1),
  'options', ARRAY(SELECT one FROM unnest(a.attoptions) one WHERE left(one, 3) <> 'pg_' ORDER BY 1)
) FROM a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
SELECT 'index', c.relname, to_jsonb(c) - :'pg_class'::text[] || to_jsonb(i) - :'pg_index'::text[]
|| jsonb_build_object(
  'columns', (SELECT jsonb_agg((SELECT n.attname FROM pg_catalog.pg_attribute n
      WHERE n.attrelid = i.indrelid AND n.attnum = k.number) ORDER BY k.place)
    FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)),
  'expressions', pg_get_expr(i.indexprs, i.indrelid), 'predicate', pg_get_expr(i.indpred, i.indrelid),
  'options', ARRAY(SELECT unnest(c.reloptions) ORDER BY 1), 'comment', obj_description(c.oid, 'pg_class'),
  'valid', i.indisvalid AND i.indisready AND i.indislive OR NOT :'new',
  'statistics targets and options of its columns', (SELECT jsonb_agg(jsonb_build_array(e.attstattarget,
      ARRAY(SELECT one FROM unnest(e.attoptions) one WHERE left(one, 3) <> 'pg_' ORDER BY 1)) ORDER BY e.attnum)
    FROM pg_catalog.pg_attribute e WHERE e.attrelid = c.oid)
) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = :'oid'
UNION ALL
SELECT 'constraint', c.conname, to_jsonb(c) - :'pg_constraint'::text[] || jsonb_build_object(
  'columns', (SELECT jsonb_agg(n.attname ORDER BY n.attname) FROM pg_catalog.pg_attribute n
    WHERE n.attrelid = c.conrelid AND n.attnum = ANY (c.conkey)),
  'definition', pg_get_constraintdef(c.oid), 'comment', obj_description(c.oid, 'pg_constraint'),
  'index', (SELECT relname FROM pg_catalog.pg_class WHERE oid = c.conindid)
) FROM pg_catalog.pg_constraint c WHERE c.conrelid = :'oid';

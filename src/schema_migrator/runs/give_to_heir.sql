-- Statements that give what a run created to the owner of the store's other tables.
-- A column's sequence goes with its table. An extension keeps its objects. Objects that an event trigger has already
-- given to another role stay with that role.
WITH things AS (
  SELECT 'pg_class' AS catalog, c.oid, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
      WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS kind,
    pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relowner AS owner
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = :'schema' AND c.relkind IN ('r', 'p', 'S', 'v', 'm')
  UNION ALL
  SELECT 'pg_proc', p.oid, 'ROUTINE',
    pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
    p.proowner
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = :'schema' AND p.prokind <> 'a'
  UNION ALL
  SELECT 'pg_type', t.oid, 'TYPE', pg_catalog.format('%I.%I', n.nspname, t.typname), t.typowner
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
  WHERE n.nspname = :'schema' AND (t.typtype IN ('d', 'e') OR c.relkind = 'c')
)
SELECT pg_catalog.format('ALTER %s %s OWNER TO %I', t.kind, t.name, :'heir'::text) FROM things t
WHERE t.catalog || ':' || t.oid <> ALL (:'before')
  AND t.owner = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = ('pg_catalog.' || t.catalog)::regclass AND d.objid = t.oid AND (d.deptype = 'e'
      OR (t.kind = 'SEQUENCE' AND d.deptype IN ('a', 'i')
        AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0)))
ORDER BY t.kind, t.name;

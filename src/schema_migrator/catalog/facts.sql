-- What the catalogs say of a database and of the schema that holds the store's tables.
WITH chosen AS (SELECT coalesce(
  (SELECT n.nspname::text FROM unnest(:'path'::text[]) WITH ORDINALITY AS p(name, place)
    JOIN pg_catalog.pg_namespace n ON n.nspname = CASE p.name WHEN '$user' THEN current_user ELSE p.name END
    ORDER BY place LIMIT 1),
  :'wanted', nullif(current_setting('schema_migrator.schema'), '')) AS name)
SELECT chosen.name AS schema,
  n.oid IS NOT NULL AS schema_exists,
  current_setting('server_version_num')::int AS server,
  pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS read_only,
  pg_backend_pid() AS pid,
  pg_postmaster_start_time()::text || '/' || d.oid AS identity,
  current_user::text AS role,
  has_database_privilege(d.oid, 'CREATE') AS may_create_schema,
  coalesce(has_schema_privilege(n.oid, 'CREATE'), false) AS may_create_table,
  coalesce(pg_get_userbyid(n.nspowner)::text, '') AS schema_owner,
  EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'btree_gin') AS btree_gin,
  EXISTS (SELECT FROM pg_catalog.pg_depend d
    LEFT JOIN pg_catalog.pg_opclass o ON d.classid = 'pg_catalog.pg_opclass'::regclass AND o.oid = d.objid
    LEFT JOIN pg_catalog.pg_type t ON d.classid = 'pg_catalog.pg_type'::regclass AND t.oid = d.objid
    WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
      AND (o.opcnamespace = n.oid AND NOT o.opcdefault OR t.typnamespace = n.oid AND t.typelem = 0)) AS extended,
  ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
    WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') ORDER BY 1) AS tables,
  ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
    WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND NOT pg_has_role(c.relowner, 'USAGE')
      AND c.relname = ANY (:'known' || ARRAY['schema_version', 'schema_update_history'])
    ORDER BY 1) AS foreign_tables,
  ARRAY(SELECT o.nspname::text FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace o ON o.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND o.oid IS DISTINCT FROM n.oid AND o.nspname !~ '^(pg_|schema_migrator_rehearsal_)'
    GROUP BY 1 HAVING bool_or(c.relname = ANY (:'known'))
      AND bool_or(c.relname IN ('schema_version', 'executions_visibility'))) AS elsewhere,
  ARRAY(SELECT i.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    WHERE i.relnamespace = n.oid AND NOT x.indisvalid AND (i.relname = ANY (:'indexes')
      OR regexp_replace(i.relname, '_cc(new|old)[0-9]*$', '') = ANY (:'indexes') AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.relation = x.indrelid
          AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())))
    ORDER BY 1) AS invalid,
  ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
    WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND c.relname = ANY (:'known')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisprimary)
    ORDER BY 1) AS keyless
FROM chosen JOIN pg_catalog.pg_database d ON d.datname = current_database()
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = chosen.name;

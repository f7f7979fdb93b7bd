DO LANGUAGE 'plpgsql' $$
    BEGIN
        IF ( NOT EXISTS (select extname from pg_extension where extname = 'pg_trgm') ) THEN
            CREATE EXTENSION pg_trgm;
        END IF;
    END
$$;

CREATE INDEX CONCURRENTLY IF NOT EXISTS by_workflow_id_trigrams ON executions_visibility USING GIN (workflow_id gin_trgm_ops);
CREATE INDEX by_workflow_type_trigrams ON executions_visibility USING GIN (workflow_type_name gin_trgm_ops);

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE INDEX CONCURRENTLY IF NOT EXISTS by_workflow_id_trigrams ON executions_visibility USING GIN (workflow_id gin_trgm_ops);
CREATE INDEX by_workflow_type_trigrams ON executions_visibility USING GIN (workflow_type_name gin_trgm_ops);

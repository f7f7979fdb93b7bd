CREATE EXTENSION pg_trgm;
CREATE INDEX by_workflow_id_trigrams ON executions_visibility USING GIN (workflow_id gin_trgm_ops);

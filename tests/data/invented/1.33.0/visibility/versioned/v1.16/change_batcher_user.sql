-- The expression of a generated column is changed by another column of the same name
DROP INDEX by_batcher_user;
ALTER TABLE executions_visibility DROP COLUMN BatcherUser;
ALTER TABLE executions_visibility ADD COLUMN BatcherUser VARCHAR(255) GENERATED ALWAYS AS (COALESCE(search_attributes->>'BatcherUser', search_attributes->>'Keyword01')) STORED;
CREATE INDEX by_batcher_user ON executions_visibility (namespace_id, BatcherUser, (COALESCE(close_time, '9999-12-31 23:59:59')) DESC, start_time DESC, run_id);

UPDATE executions SET db_record_version = db_record_version + 1;
CREATE INDEX CONCURRENTLY executions_by_version ON executions (shard_id, db_record_version);

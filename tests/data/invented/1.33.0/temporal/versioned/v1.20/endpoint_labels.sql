CREATE TABLE nexus_endpoint_labels (
  endpoint_id   BYTEA NOT NULL REFERENCES nexus_endpoints (id) ON DELETE CASCADE,
  label         VARCHAR(255) NOT NULL,
  data          BYTEA NULL,
  PRIMARY KEY (endpoint_id, label)
);

CREATE INDEX nexus_endpoint_labels_by_label ON nexus_endpoint_labels (label);
CREATE INDEX CONCURRENTLY IF NOT EXISTS current_executions_by_start_time ON current_executions (shard_id, start_time);

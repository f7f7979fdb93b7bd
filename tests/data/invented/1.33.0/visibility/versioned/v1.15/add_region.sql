ALTER TABLE executions_visibility
  ADD COLUMN IF NOT EXISTS InventedRegion VARCHAR(255) GENERATED ALWAYS AS (search_attributes->>'Keyword02') STORED;

CREATE INDEX CONCURRENTLY IF NOT EXISTS by_invented_region ON executions_visibility (namespace_id, InventedRegion, (COALESCE(close_time, '9999-12-31 23:59:59')) DESC, start_time DESC, run_id);

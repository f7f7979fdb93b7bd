ALTER TABLE executions_visibility ALTER COLUMN history_length TYPE NUMERIC(20, 0);

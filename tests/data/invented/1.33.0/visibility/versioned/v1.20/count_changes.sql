ALTER TABLE executions_visibility ADD COLUMN changes BIGINT NOT NULL DEFAULT 0;

CREATE FUNCTION count_change() RETURNS TRIGGER AS $$
BEGIN
  NEW.changes := OLD.changes + 1;
  RETURN NEW;
END
$$ LANGUAGE plpgsql;

CREATE TRIGGER executions_visibility_changes BEFORE UPDATE ON executions_visibility
  FOR EACH ROW EXECUTE FUNCTION count_change();

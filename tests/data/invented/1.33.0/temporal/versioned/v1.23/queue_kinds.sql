CREATE TYPE invented_queue_kind AS ENUM ('unknown', 'dead letters', 'replication');
ALTER TABLE queues ADD COLUMN kind invented_queue_kind NOT NULL DEFAULT 'unknown';

-- Dead letters are never in a queue of another kind
CREATE FUNCTION keep_queue_kind() RETURNS TRIGGER AS $$
BEGIN
  IF NEW.kind = 'unknown' THEN
    NEW.kind := OLD.kind;
  END IF;
  RETURN NEW;
END
$$ LANGUAGE plpgsql;
CREATE TRIGGER queues_kind BEFORE UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION keep_queue_kind();

DO LANGUAGE 'plpgsql' $$
BEGIN
  IF EXISTS (SELECT FROM pg_class WHERE relname = 'tasks_v2' AND relkind = 'r') THEN
    ALTER TABLE tasks_v2 ADD COLUMN priority INTEGER NULL;
  END IF;
END
$$;

DO $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM information_schema.columns WHERE table_name = 'task_queues_v2' AND column_name = 'priority'
  ) THEN
    ALTER TABLE task_queues_v2 ADD COLUMN priority INTEGER NULL;
  END IF;
END
$$;

DO $$
BEGIN
  IF to_regclass('chasm_node_maps') IS NOT NULL AND to_regclass('chasm_node_maps_by_path') IS NULL THEN
    CREATE INDEX chasm_node_maps_by_path ON chasm_node_maps (shard_id, chasm_path);
  END IF;
END
$$;

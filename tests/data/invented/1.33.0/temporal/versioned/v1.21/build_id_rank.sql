ALTER TABLE build_id_to_task_queue ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
ALTER TABLE build_id_to_task_queue DROP CONSTRAINT build_id_to_task_queue_pkey;
ALTER TABLE build_id_to_task_queue ADD PRIMARY KEY (namespace_id, build_id, task_queue_name, rank);

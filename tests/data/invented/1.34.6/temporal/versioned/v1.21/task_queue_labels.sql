CREATE TABLE task_queue_labels (
  task_queue_id BYTEA NOT NULL,
  label         CITEXT NOT NULL,
  PRIMARY KEY (task_queue_id, label)
);
CREATE INDEX task_queue_labels_by_label ON task_queue_labels (label);

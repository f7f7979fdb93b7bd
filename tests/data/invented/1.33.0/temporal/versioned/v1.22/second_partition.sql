INSERT INTO namespace_metadata (partition_id, notification_version) VALUES (54322, 1);

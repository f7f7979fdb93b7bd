CREATE TYPE invented_queue_kind AS ENUM ('unknown', 'dead letters');
ALTER TABLE queues ADD COLUMN kind invented_queue_kind NOT NULL DEFAULT 'unknown';

ALTER TYPE invented_queue_kind ADD VALUE 'replication';
UPDATE queues SET kind = 'replication' WHERE queue_type = 1;

ALTER TABLE nexus_endpoints ADD COLUMN state INTEGER NULL;
UPDATE nexus_endpoints SET state = 1;
ALTER TABLE nexus_endpoints ALTER COLUMN state SET NOT NULL;

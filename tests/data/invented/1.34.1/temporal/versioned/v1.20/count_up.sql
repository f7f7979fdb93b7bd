ALTER TABLE nexus_endpoints ADD COLUMN state INTEGER NULL;
UPDATE nexus_endpoints SET version = version + 1;
ALTER TABLE nexus_endpoints ADD COLUMN region VARCHAR(255) NULL;
UPDATE nexus_endpoints SET version = version + 1;

ALTER TABLE executions_visibility ADD COLUMN InventedRegion VARCHAR(255) GENERATED ALWAYS AS (search_attributes->>'Keyword02') STORED;
UPDATE executions_visibility SET encoding = 'Json' WHERE encoding = '';

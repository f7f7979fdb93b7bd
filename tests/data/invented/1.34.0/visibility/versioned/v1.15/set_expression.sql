ALTER TABLE executions_visibility ALTER COLUMN Keyword10 SET EXPRESSION AS (search_attributes->>'Keyword01');

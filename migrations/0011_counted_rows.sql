-- Rows of the main table that `worker audit` has counted, by ranges of ids. A batch adds to these counts
-- what it changes in counted rows. An audit reads only the rows after `counted_to`. The rows of dropped
-- months stay in the counts.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 'ingest_progress'
       AND column_name = 'counted_to') = 0,
    'ALTER TABLE ingest_progress
    ADD COLUMN counted_to BIGINT NOT NULL DEFAULT 0 COMMENT ''offset up to which rows are counted'',
    ADD COLUMN counted_rows BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN counted_deliveries BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN counted_others BIGINT NOT NULL DEFAULT 0 COMMENT ''rows of other writers among the ids''',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

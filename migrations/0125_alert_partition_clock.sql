-- A partition's clock as a number of its own; hearing keeps a default for alerters of the version before.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_alert_partition'
       AND column_name = 'clock_ms') = 0,
    'ALTER TABLE t_alert_partition
        ADD COLUMN clock_ms BIGINT NOT NULL DEFAULT 0 COMMENT ''greatest Kafka record time, epoch ms'',
        MODIFY hearing TEXT NOT NULL DEFAULT (''{"clock_ms":0,"rules":{}}'')',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;
UPDATE t_alert_partition
SET clock_ms = COALESCE(IF(JSON_VALID(hearing),
    CAST(JSON_UNQUOTE(JSON_EXTRACT(hearing, '$.clock_ms')) AS SIGNED), 0), 0)
WHERE clock_ms = 0;

-- The fields of rules that the platform's own table lacks, and those that came after ours.
SET @missing = (
    SELECT GROUP_CONCAT(CONCAT('ADD COLUMN ', wanted.name, ' ', wanted.type) SEPARATOR ', ')
    FROM (
        SELECT 'clear_min' AS name, 'DECIMAL(10, 2)' AS type
        UNION ALL SELECT 'clear_max', 'DECIMAL(10, 2)'
        UNION ALL SELECT 'clear_after', 'INT'
        UNION ALL SELECT 'repeat_interval_seconds', 'INT'
        UNION ALL SELECT 'escalation', 'JSON'
        UNION ALL SELECT 'flap_openings', 'INT'
        UNION ALL SELECT 'flap_window_seconds', 'INT'
        UNION ALL SELECT 'stale_after_seconds', 'INT'
    ) AS wanted
    WHERE NOT EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 't_alert_rules'
          AND CONVERT(column_name USING utf8mb4) COLLATE utf8mb4_bin
              = CONVERT(wanted.name USING utf8mb4) COLLATE utf8mb4_bin));
SET @change = IF(@missing IS NULL, 'DO 0', CONCAT('ALTER TABLE t_alert_rules ', @missing));
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

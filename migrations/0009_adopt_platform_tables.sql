-- If the platform made a table before, the files above left it unchanged. These statements widen or add
-- what this system needs in such a table. On tables of the files above they do nothing. None of them
-- drops a column or removes a row.

-- The platform's device_sn takes 20 characters; a reading's serial number has up to 64.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_alert_info'
       AND column_name = 'device_sn' AND character_maximum_length < 64) = 1,
    'ALTER TABLE t_alert_info MODIFY device_sn VARCHAR(64) NOT NULL',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

-- The platform has no unique key on dedup_key. If its rows already share keys, none can be added, and
-- the transaction of state and alert is the only guard against a second row.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.statistics
     WHERE table_schema = DATABASE() AND table_name = 't_alert_info'
       AND column_name = 'dedup_key' AND non_unique = 0) = 0
    AND (SELECT COUNT(*) FROM (
            SELECT dedup_key FROM t_alert_info WHERE dedup_key IS NOT NULL
            GROUP BY dedup_key HAVING COUNT(*) > 1 LIMIT 1) AS shared) = 0,
    'ALTER TABLE t_alert_info ADD UNIQUE KEY uk_dedup_key (dedup_key)',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

-- The platform's accounts have no address to fall back on.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_wechat_alarm_config'
       AND column_name = 'default_address') = 0,
    'ALTER TABLE t_wechat_alarm_config ADD COLUMN default_address VARCHAR(128)',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

-- The fields of a rule that only this system knows. The two sides of the comparison of names have
-- different collations on MySQL, hence CONVERT.
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

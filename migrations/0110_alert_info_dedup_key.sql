-- The platform's own t_alert_info has no unique key on dedup_key. It gets one, unless rows of
-- others already share a key; the transaction of state and alert then guards alone.
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

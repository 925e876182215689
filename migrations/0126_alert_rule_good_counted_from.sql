-- When each version of a rule came into force: absence counts from then.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_alert_rule_good'
       AND column_name = 'counted_from') = 0,
    'ALTER TABLE t_alert_rule_good ADD COLUMN counted_from BIGINT NOT NULL DEFAULT 0 COMMENT ''epoch ms''',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;
UPDATE t_alert_rule_good SET counted_from = CAST(UNIX_TIMESTAMP(accepted_at) * 1000 AS SIGNED)
WHERE counted_from = 0;

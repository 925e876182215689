-- The platform's own t_wechat_alarm_config has no address to fall back on.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_wechat_alarm_config'
       AND column_name = 'default_address') = 0,
    'ALTER TABLE t_wechat_alarm_config ADD COLUMN default_address VARCHAR(128)',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

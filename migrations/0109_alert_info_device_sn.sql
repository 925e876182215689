-- The platform's own t_alert_info takes serial numbers of 20 characters, readings have up to 64.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_alert_info'
       AND column_name = 'device_sn' AND character_maximum_length < 64) = 1,
    'ALTER TABLE t_alert_info MODIFY device_sn VARCHAR(64) NOT NULL',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

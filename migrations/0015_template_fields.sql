-- What a tenant's WeChat accounts show: the fields of the official account's template, by their contents, and
-- the form of messages in WeCom. Without them, the fields are keyword1 to keyword4, and the form is text. Where the
-- platform has removed its table, there is nothing to add.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_wechat_alarm_config'
       AND column_name = 'template_fields') = 0
    AND EXISTS (SELECT 1 FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name = 't_wechat_alarm_config'),
    'ALTER TABLE t_wechat_alarm_config ADD COLUMN template_fields JSON',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_wechat_alarm_config'
       AND column_name = 'wecom_form') = 0
    AND EXISTS (SELECT 1 FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name = 't_wechat_alarm_config'),
    'ALTER TABLE t_wechat_alarm_config ADD COLUMN wecom_form VARCHAR(16)',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

-- An openid has one word. Who was entered under the other one would be told nothing any more.
UPDATE IGNORE t_alert_recipient_address SET kind = 'openid' WHERE kind = 'official';
DELETE FROM t_alert_recipient_address WHERE kind = 'official';
ALTER TABLE t_alert_recipient_address
    MODIFY kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'openid or wecom';

-- Every notification has a notice. One that cannot be read is sent as it stands, so that no row
-- refuses the change.
UPDATE t_alert_outbox SET notice = '' WHERE notice IS NULL;
ALTER TABLE t_alert_outbox
    MODIFY notice MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'JSON; what the bytes say';

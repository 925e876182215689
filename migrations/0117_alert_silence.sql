-- Silences: what they cover is recorded and not told, until they end. A matcher that is NULL covers
-- all. Rows are ended, never changed otherwise, so that they say who silenced what, when and why.
CREATE TABLE IF NOT EXISTS t_alert_silence (
    id          BIGINT NOT NULL AUTO_INCREMENT,
    customer_id BIGINT COMMENT 'NULL: any tenant',
    device_sn   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin COMMENT 'NULL: any device',
    rule_id     BIGINT COMMENT 'NULL: any rule',
    reason      VARCHAR(255) NOT NULL,
    author      VARCHAR(64) NOT NULL,
    starts_at   BIGINT NOT NULL COMMENT 'epoch ms',
    ends_at     BIGINT NOT NULL COMMENT 'epoch ms',
    ended_at    BIGINT COMMENT 'epoch ms; when somebody ended it before its time',
    ended_by    VARCHAR(64),
    created_at  BIGINT NOT NULL COMMENT 'epoch ms',
    PRIMARY KEY (id),
    KEY idx_ends (ends_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

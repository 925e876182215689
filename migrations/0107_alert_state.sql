-- Where a rule stands on a device; no row where there is nothing to remember.
CREATE TABLE IF NOT EXISTS t_alert_state (
    rule_id         BIGINT NOT NULL,
    device_sn       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    kafka_partition INT NOT NULL,
    rule_version    BIGINT NOT NULL,
    state           TEXT NOT NULL COMMENT 'JSON',
    updated_at      TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    PRIMARY KEY (rule_id, device_sn),
    KEY idx_partition (kafka_partition)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

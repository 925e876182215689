-- The state of a rule on a device. Only a rule with something to remember has a row.
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

-- Each partition's clock, the greatest record time that was seen there.
CREATE TABLE IF NOT EXISTS t_alert_partition (
    kafka_partition INT NOT NULL,
    clock_ms        BIGINT NOT NULL DEFAULT 0 COMMENT 'greatest Kafka record time, epoch ms',
    updated_at      TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    PRIMARY KEY (kafka_partition)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The time from which each window of absence counts on a partition. Rules share a few windows, so the
-- table has a few rows per partition, each written only when it changes.
CREATE TABLE IF NOT EXISTS t_alert_no_data_clock (
    kafka_partition INT NOT NULL,
    window_seconds  INT NOT NULL,
    counted_from    BIGINT NOT NULL COMMENT 'Kafka record time, epoch ms',
    PRIMARY KEY (kafka_partition, window_seconds)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The journal: the times of each device's last vitals and of its last reading. Every batch adds an
-- entry.
CREATE TABLE IF NOT EXISTS t_alert_journal (
    id              BIGINT NOT NULL AUTO_INCREMENT,
    kafka_partition INT NOT NULL,
    devices         INT NOT NULL COMMENT 'lines of the entry',
    entry           MEDIUMBLOB NOT NULL COMMENT 'text; as a blob, because converting it between character sets costs more than storing it',
    written_at      TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    PRIMARY KEY (id),
    KEY idx_partition (kafka_partition)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

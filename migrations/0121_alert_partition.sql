-- When a partition was heard, and since when each rule counts its silence.
CREATE TABLE IF NOT EXISTS t_alert_partition (
    kafka_partition INT NOT NULL,
    hearing         TEXT NOT NULL COMMENT 'JSON',
    updated_at      TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    PRIMARY KEY (kafka_partition)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

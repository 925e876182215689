-- When each device last reported each sign: what is not newer is late. By partition, because a
-- partition's devices are loaded when it is assigned.
CREATE TABLE IF NOT EXISTS t_alert_device (
    device_sn       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    kafka_partition INT NOT NULL,
    seen            VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'epoch ms by sign',
    updated_at      TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    PRIMARY KEY (device_sn),
    KEY idx_partition (kafka_partition)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

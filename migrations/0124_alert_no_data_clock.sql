-- Since when each window of absence counts in a partition, in the place of t_alert_partition.hearing,
-- which kept it for every rule: a row for each of a few windows, written when it changes.
CREATE TABLE IF NOT EXISTS t_alert_no_data_clock (
    kafka_partition INT NOT NULL,
    window_seconds  INT NOT NULL,
    counted_from    BIGINT NOT NULL COMMENT 'Kafka record time, epoch ms',
    PRIMARY KEY (kafka_partition, window_seconds)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- What each device last said and when it was heard, added to by every batch: alerter/src/journal.rs.
-- It takes the place of t_alert_device, from which a partition starts that has no journal yet.
CREATE TABLE IF NOT EXISTS t_alert_journal (
    id              BIGINT NOT NULL AUTO_INCREMENT,
    kafka_partition INT NOT NULL,
    devices         INT NOT NULL COMMENT 'lines of the entry',
    entry           MEDIUMBLOB NOT NULL COMMENT 'text; as a blob, because converting it between character sets costs more than storing it',
    written_at      TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    PRIMARY KEY (id),
    KEY idx_partition (kafka_partition)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

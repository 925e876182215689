-- The dead letters that `worker dlq purge` deleted, by the deliveries that they held. The audit counts
-- them like those that the topic still has. A row is written before its dead letter is deleted.
CREATE TABLE IF NOT EXISTS ingest_purged_letter (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    topic          VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'the readings topic',
    `partition`    INT NOT NULL COMMENT 'of the readings topic',
    `offset`       BIGINT NOT NULL COMMENT 'of the delivery, as the ledger counts',
    purged_at      TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (consumer_group, topic, `partition`, `offset`)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- How many partitions a topic had when it was accepted. With another number devices move between
-- partitions, and their readings are no longer in one order.
CREATE TABLE IF NOT EXISTS ingest_topic (
    topic        VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    `partitions` INT NOT NULL,
    accepted_at  TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (topic)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

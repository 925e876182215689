-- Where each group stood when a topic that was made anew was accepted. Acknowledged readings behind that
-- may be lost with the topic before it.
CREATE TABLE IF NOT EXISTS ingest_topic_gap (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    topic          VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    `partition`    INT NOT NULL,
    former_id      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the topic that is gone',
    stood_at       BIGINT NOT NULL,
    base           BIGINT NOT NULL COMMENT 'where the group goes on',
    accepted_at    TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (consumer_group, topic, `partition`, former_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

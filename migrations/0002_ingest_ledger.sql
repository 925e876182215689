-- The ledger: each group's position on each partition, the claim that may move it, and the outcome of
-- every delivery. For a worker group this always holds:
-- next_offset - first_offset = stored + merged + dead_lettered + skipped_gap - rewound
-- Only a group of the same kind may claim a row. A worker and an alerter in one group would share its
-- partitions, and each would skip the readings of the other.
CREATE TABLE IF NOT EXISTS ingest_progress (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    topic          VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    `partition`    INT NOT NULL,
    first_offset   BIGINT NOT NULL,
    next_offset    BIGINT NOT NULL,
    redis_offset   BIGINT NOT NULL COMMENT 'up to where Redis is known to be current',
    epoch          BIGINT NOT NULL COMMENT 'raised by every claim',
    owner          VARCHAR(255) NOT NULL,
    `stored`       BIGINT NOT NULL DEFAULT 0,
    merged         BIGINT NOT NULL DEFAULT 0,
    dead_lettered  BIGINT NOT NULL DEFAULT 0,
    skipped_gap    BIGINT NOT NULL DEFAULT 0,
    rewound        BIGINT NOT NULL DEFAULT 0,
    processed      BIGINT NOT NULL DEFAULT 0 COMMENT 'the one count of a group without rows of its own',
    updated_at     TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    kind           VARCHAR(16) NULL COMMENT 'worker or alerter; NULL: whoever claims it first',
    PRIMARY KEY (consumer_group, topic, `partition`)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- How many rows of each writer went with a month that was dropped past the retention. The audit adds
-- these counts to those of the main table. An entry is written before its month is dropped, so it counts
-- only once the month is gone.
CREATE TABLE IF NOT EXISTS ingest_dropped_month (
    month      CHAR(7) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'name of the partition, pYYYYMM',
    bucket     BIGINT NOT NULL COMMENT 'partition of the topic; -1: id 0; -2: other writers',
    row_count  BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    counted_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (month, bucket)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Each group's position when a recreated topic was accepted. The former topic may have taken
-- acknowledged readings behind that position with it.
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

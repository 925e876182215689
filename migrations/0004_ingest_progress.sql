-- The ledger: where each group stands on each partition, who may move it, and what became of every
-- delivery. For a worker group, always:
-- next_offset - first_offset = stored + merged + dead_lettered + skipped_gap - rewound
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
    PRIMARY KEY (consumer_group, topic, `partition`)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

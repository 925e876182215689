-- Operators' orders to a group: `worker pause` and `worker resume`.
CREATE TABLE IF NOT EXISTS ingest_control (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    paused         TINYINT(1) NOT NULL,
    reason         VARCHAR(255) NOT NULL,
    changed_by     VARCHAR(255) NOT NULL,
    changed_at     TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    PRIMARY KEY (consumer_group)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The topic that an operator accepted: how many partitions it had, and which topic of that name it was.
-- Another number moves devices between partitions, and their readings lose their order. A recreated
-- topic has the same name and offsets from 0 on, so its id tells the two apart. The ledger's offsets are
-- Kafka's plus the base, and no ledger offset occurs twice.
CREATE TABLE IF NOT EXISTS ingest_topic (
    topic        VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    `partitions` INT NOT NULL,
    accepted_at  TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    topic_id     VARCHAR(64) NULL COMMENT 'as the brokers say it; NULL: not asked yet',
    cluster_id   VARCHAR(64) NULL,
    base         BIGINT NOT NULL DEFAULT 0 COMMENT 'what the offsets of the ledger are ahead of Kafka''s',
    PRIMARY KEY (topic)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The generation of Redis that a group expects. A key in Redis holds the token and a sequence number that only
-- grows. If the key is missing or behind this row, Redis was flushed or went back in time, and a new
-- generation begins. It is complete (`refilled`) once every device has been written to Redis again.
CREATE TABLE IF NOT EXISTS redis_generation (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    token          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    placed         TINYINT(1) NOT NULL DEFAULT 0 COMMENT 'whether Redis has been given the token',
    sequence       BIGINT NOT NULL DEFAULT 0,
    generation     BIGINT NOT NULL DEFAULT 1,
    refilled       BIGINT NOT NULL DEFAULT 0 COMMENT 'the last generation that is complete',
    refiller       VARCHAR(255) NULL COMMENT 'who refills now',
    refill_until   DATETIME(3) NULL COMMENT 'UTC; until when nobody else does',
    PRIMARY KEY (consumer_group)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

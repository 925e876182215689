-- What a group expects of Redis. A key there holds the token and a beat that only grows: where it is
-- missing or says less than this row, Redis was flushed or went back in time, and a new generation
-- begins, which is complete once everything has been shown again (`refilled`).
CREATE TABLE IF NOT EXISTS redis_sentinel (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    token          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    placed         TINYINT(1) NOT NULL DEFAULT 0 COMMENT 'whether Redis has been given the token',
    beat           BIGINT NOT NULL DEFAULT 0,
    generation     BIGINT NOT NULL DEFAULT 1,
    refilled       BIGINT NOT NULL DEFAULT 0 COMMENT 'the last generation that is complete',
    refiller       VARCHAR(255) NULL COMMENT 'who refills now',
    refill_until   DATETIME(3) NULL COMMENT 'UTC; until when nobody else does',
    PRIMARY KEY (consumer_group)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Notifications to be sent, written in the transaction of their transition. The unique key keeps a
-- replay from notifying a recipient twice. The lease keeps two replicas from sending a row at the same
-- time. The sender makes the request anew from the notice; it sends a device's rows in order.
CREATE TABLE IF NOT EXISTS t_alert_outbox (
    id              BIGINT NOT NULL AUTO_INCREMENT,
    episode_key     CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 't_alert_info.dedup_key',
    transition_seq  INT NOT NULL,
    transition      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    recipient       VARCHAR(160) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'kind:address',
    customer_id     BIGINT NOT NULL,
    payload         MEDIUMBLOB NOT NULL COMMENT 'the request, byte for byte',
    traceparent     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    state           VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'pending'
        COMMENT 'pending, in_digest, sent, dropped, failed',
    attempts        INT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT NOT NULL COMMENT 'epoch ms',
    lease_owner     CHAR(32) CHARACTER SET ascii COLLATE ascii_bin,
    lease_until     BIGINT NOT NULL DEFAULT 0 COMMENT 'epoch ms',
    last_errcode    BIGINT,
    last_error      VARCHAR(255),
    created_at      BIGINT NOT NULL COMMENT 'epoch ms',
    finished_at     BIGINT COMMENT 'epoch ms',
    device_sn       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    notice          MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'JSON; what the bytes say',
    resends         INT NOT NULL DEFAULT 0 COMMENT 'how often the request was rebuilt to be sent again',
    uncertain_since BIGINT COMMENT 'epoch ms; it may have arrived since then',
    digest_id       BIGINT COMMENT 'the row that tells of this one',
    PRIMARY KEY (id),
    UNIQUE KEY uk_episode_transition_recipient (episode_key, transition_seq, recipient),
    KEY idx_state_next (state, next_attempt_at),
    KEY idx_device_recipient (device_sn, recipient, state),
    KEY idx_recipient (customer_id, recipient, state, finished_at),
    KEY idx_created (created_at, customer_id, episode_key),
    KEY idx_digest (digest_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Silences. Until a silence ends, the alerter records what it covers and notifies no one. A matcher
-- that is NULL covers everything. A row is only ever ended, so it keeps who silenced what, when and why.
CREATE TABLE IF NOT EXISTS t_alert_silence (
    id          BIGINT NOT NULL AUTO_INCREMENT,
    customer_id BIGINT COMMENT 'NULL: any tenant',
    device_sn   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin COMMENT 'NULL: any device',
    rule_id     BIGINT COMMENT 'NULL: any rule',
    reason      VARCHAR(255) NOT NULL,
    author      VARCHAR(64) NOT NULL,
    starts_at   BIGINT NOT NULL COMMENT 'epoch ms',
    ends_at     BIGINT NOT NULL COMMENT 'epoch ms',
    ended_at    BIGINT COMMENT 'epoch ms; when somebody ended it before its time',
    ended_by    VARCHAR(64),
    created_at  BIGINT NOT NULL COMMENT 'epoch ms',
    PRIMARY KEY (id),
    KEY idx_ends (ends_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Counts of notifications that were not sent, by reason. They leave no other trace that could be
-- counted. A count is raised in the transaction of its transition, so a replay counts nothing twice.
CREATE TABLE IF NOT EXISTS t_alert_suppressed (
    event_day   DATE NOT NULL COMMENT 'on the devices'' wall clock',
    rule_id     BIGINT NOT NULL,
    customer_id BIGINT NOT NULL,
    reason      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
        COMMENT 'cooldown, flapping, silenced, or why nobody could be told',
    suppressed  BIGINT NOT NULL,
    PRIMARY KEY (event_day, rule_id, customer_id, reason)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

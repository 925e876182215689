-- Notifications to be sent, written in the transaction of what they tell about. The unique key is
-- why nobody is told twice; the lease is why two replicas never send the same one at a time.
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
        COMMENT 'pending, sent, dropped, failed',
    attempts        INT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT NOT NULL COMMENT 'epoch ms',
    lease_owner     CHAR(32) CHARACTER SET ascii COLLATE ascii_bin,
    lease_until     BIGINT NOT NULL DEFAULT 0 COMMENT 'epoch ms',
    last_errcode    BIGINT,
    last_error      VARCHAR(255),
    created_at      BIGINT NOT NULL COMMENT 'epoch ms',
    finished_at     BIGINT COMMENT 'epoch ms',
    PRIMARY KEY (id),
    UNIQUE KEY uk_episode_transition_recipient (episode_key, transition_seq, recipient),
    KEY idx_state_next (state, next_attempt_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

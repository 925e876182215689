-- What was done about an alert: here, one row for every attempt to tell somebody, with its real
-- result.
CREATE TABLE IF NOT EXISTS t_alert_action_log (
    log_id            BIGINT NOT NULL AUTO_INCREMENT,
    id                INT,
    alert_id          BIGINT UNSIGNED NOT NULL,
    action            VARCHAR(255) NOT NULL,
    action_timestamp  TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
    action_user       VARCHAR(255),
    action_user_id    BIGINT,
    details           TEXT,
    handled_via       VARCHAR(50),
    result            VARCHAR(50),
    notification_type VARCHAR(20),
    retry_attempt     INT DEFAULT 0,
    customer_id       BIGINT NOT NULL DEFAULT 0,
    channel           VARCHAR(32),
    actor             VARCHAR(64),
    context           JSON,
    action_at         DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
    execution_time_ms INT,
    is_deleted        TINYINT(1) NOT NULL DEFAULT 0,
    create_time       DATETIME DEFAULT CURRENT_TIMESTAMP,
    update_time       DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (log_id),
    KEY idx_alert (alert_id, log_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

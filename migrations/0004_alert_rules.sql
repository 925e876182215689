-- The rules. The platform's admin console writes this table. The columns are the union of those that
-- the platform's variants have, and the fields that only this system knows. 0009 adds the latter to a
-- table that the platform made.
CREATE TABLE IF NOT EXISTS t_alert_rules (
    id                      BIGINT NOT NULL AUTO_INCREMENT,
    customer_id             BIGINT NOT NULL DEFAULT 0 COMMENT '0: template of all tenants',
    rule_type               VARCHAR(50) NOT NULL,
    rule_category           ENUM('SINGLE', 'COMPOSITE', 'COMPLEX', 'NO_DATA') NOT NULL DEFAULT 'SINGLE',
    physical_sign           VARCHAR(50),
    threshold_min           DECIMAL(10, 2),
    threshold_max           DECIMAL(10, 2),
    clear_min               DECIMAL(10, 2),
    clear_max               DECIMAL(10, 2),
    clear_after             INT,
    deviation_percentage    DECIMAL(5, 2),
    trend_duration          INT,
    time_window_seconds     INT DEFAULT 300,
    cooldown_seconds        INT DEFAULT 600,
    repeat_interval_seconds INT,
    condition_expression    JSON,
    trigger_condition       TEXT,
    parameters              JSON,
    metric                  VARCHAR(64),
    event_type              VARCHAR(64),
    dsl                     JSON,
    notify                  JSON,
    alert_message           TEXT,
    severity_level          VARCHAR(16) DEFAULT 'minor',
    level                   VARCHAR(16) DEFAULT 'minor',
    escalation              JSON COMMENT 'list of {after_seconds, to}',
    priority_level          INT DEFAULT 3,
    rule_tags               JSON,
    effective_time_start    TIME,
    effective_time_end      TIME,
    effective_days          VARCHAR(20) DEFAULT '1,2,3,4,5,6,7',
    notification_type       VARCHAR(50),
    enabled_channels        JSON,
    is_enabled              TINYINT(1) NOT NULL DEFAULT 1,
    is_deleted              TINYINT(1) NOT NULL DEFAULT 0,
    version                 BIGINT NOT NULL DEFAULT 1 COMMENT 'to be raised by every edit',
    create_user             VARCHAR(255),
    create_user_id          BIGINT,
    create_time             DATETIME DEFAULT CURRENT_TIMESTAMP,
    update_user             VARCHAR(255),
    update_user_id          BIGINT,
    update_time             DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    flap_openings           INT,
    flap_window_seconds     INT,
    stale_after_seconds     INT,
    PRIMARY KEY (id),
    KEY idx_customer_enabled (customer_id, is_enabled)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The last valid version of each rule. The alerter keeps evaluating it after a restart while the rule
-- is invalid at its source. The alerter deletes the row with its rule. Absence counts from
-- counted_from, the time at which the version became active.
CREATE TABLE IF NOT EXISTS t_alert_rule_last_good (
    source       VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'table or file',
    rule_id      BIGINT NOT NULL,
    `fields`     MEDIUMTEXT NOT NULL COMMENT 'JSON',
    fingerprint  CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of the fields',
    accepted_at  TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    counted_from BIGINT NOT NULL DEFAULT 0 COMMENT 'epoch ms',
    PRIMARY KEY (source, rule_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- How many notifications were not sent, and why: they leave no other trace that could be counted.
-- Moved in the transaction of what they belong to, so a replay counts nothing twice.
CREATE TABLE IF NOT EXISTS t_alert_suppressed (
    event_day   DATE NOT NULL COMMENT 'on the devices'' wall clock',
    rule_id     BIGINT NOT NULL,
    customer_id BIGINT NOT NULL,
    reason      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
        COMMENT 'cooldown, flapping, silenced, or why nobody could be told',
    suppressed  BIGINT NOT NULL,
    PRIMARY KEY (event_day, rule_id, customer_id, reason)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

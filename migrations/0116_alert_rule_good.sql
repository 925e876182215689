-- The last version of each rule that was accepted, so that a restart does not forget it while the
-- rule is broken where it comes from. A row where there is a rule; the alerter removes it with it.
CREATE TABLE IF NOT EXISTS t_alert_rule_good (
    source      VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'table or file',
    rule_id     BIGINT NOT NULL,
    `fields`    MEDIUMTEXT NOT NULL COMMENT 'JSON',
    fingerprint CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of the fields',
    accepted_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    PRIMARY KEY (source, rule_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

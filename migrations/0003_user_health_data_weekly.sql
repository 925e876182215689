-- The newest document of each kind per device and week; a week starts on Monday.
CREATE TABLE IF NOT EXISTS t_user_health_data_weekly (
    id                        BIGINT NOT NULL DEFAULT 0 COMMENT 'like that of the main table',
    device_sn                 VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    week_start                DATE NOT NULL,
    user_id                   BIGINT NULL,
    org_id                    BIGINT NULL,
    customer_id               BIGINT NOT NULL DEFAULT 0,
    exercise_week_data        JSON NULL,
    exercise_week_data_at     DATETIME NULL,
    exercise_week_data_source BIGINT NULL,
    create_time               TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    update_time               TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (device_sn, week_start),
    KEY idx_id (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

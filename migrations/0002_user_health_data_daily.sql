-- The newest document of each kind per device and day. Each has its own guard, the time and the
-- source of the reading that carried it: a guard shared by the row would let the order of arrival
-- decide.
CREATE TABLE IF NOT EXISTS t_user_health_data_daily (
    id                           BIGINT NOT NULL DEFAULT 0 COMMENT 'like that of the main table',
    device_sn                    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    date                         DATE NOT NULL,
    user_id                      BIGINT NULL,
    org_id                       BIGINT NULL,
    customer_id                  BIGINT NOT NULL DEFAULT 0,
    sleep_data                   JSON NULL,
    sleep_data_at                DATETIME NULL,
    sleep_data_source            BIGINT NULL,
    exercise_daily_data          JSON NULL,
    exercise_daily_data_at       DATETIME NULL,
    exercise_daily_data_source   BIGINT NULL,
    workout_data                 JSON NULL,
    workout_data_at              DATETIME NULL,
    workout_data_source          BIGINT NULL,
    scientific_sleep_data        JSON NULL,
    scientific_sleep_data_at     DATETIME NULL,
    scientific_sleep_data_source BIGINT NULL,
    create_time                  TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    update_time                  TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (device_sn, date),
    KEY idx_id (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

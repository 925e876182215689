-- Readings, and the documents that watches send by day and week. `worker migrate` runs this file again
-- if one of its tables was renamed away: it holds nothing but CREATE TABLE IF NOT EXISTS.

-- One row per reading. The primary key is a reading's identity, so a reading that is sent again merges
-- into its row. It holds `timestamp` because MySQL wants the partitioning column in every unique key.
-- p_future takes every date that has no month yet; the worker splits months off it ahead of time.
CREATE TABLE IF NOT EXISTS t_user_health_data (
    device_sn     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    timestamp     DATETIME NOT NULL,
    id            BIGINT NOT NULL DEFAULT 0 COMMENT 'partition * 2^40 + offset of the first delivery',
    user_id       BIGINT NULL,
    org_id        BIGINT NULL,
    customer_id   BIGINT NOT NULL DEFAULT 0,
    heart_rate    INT NULL,
    blood_oxygen  INT NULL,
    temperature   DOUBLE NULL,
    pressure_high INT NULL,
    pressure_low  INT NULL,
    stress        INT NULL,
    step          INT NULL,
    distance      DOUBLE NULL,
    calorie       DOUBLE NULL,
    latitude      DECIMAL(10, 6) NULL,
    longitude     DECIMAL(10, 6) NULL,
    altitude      DOUBLE NULL,
    sleep         DOUBLE NULL,
    upload_method ENUM('wifi', 'bluetooth', 'common_event', 'esim') NOT NULL DEFAULT 'wifi',
    user_name     VARCHAR(255) NOT NULL DEFAULT '',
    phone_number  VARCHAR(20) NULL,
    is_deleted    TINYINT(1) NOT NULL DEFAULT 0,
    create_time   TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    update_time   TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    deliveries    INT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'how often this identity arrived',
    last_source   BIGINT NOT NULL DEFAULT 0 COMMENT 'like id, of the latest delivery',
    PRIMARY KEY (device_sn, timestamp),
    KEY idx_id (id),
    KEY idx_customer_create_time (customer_id, create_time),
    KEY idx_org_user_timestamp (org_id, user_id, timestamp)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4
PARTITION BY RANGE COLUMNS (timestamp) (
    PARTITION p_future VALUES LESS THAN (MAXVALUE)
);

-- The newest document of each kind per device and day. Each kind has its own guard, the time and the
-- source of the reading that carried the document. One guard for the row would let the order of
-- arrival decide.
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

-- The newest document per device and week, with its guard. A week starts on Monday.
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

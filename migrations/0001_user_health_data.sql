-- One row per reading. The key is the identity, so that sending a reading again can only merge.
-- Partitioned by the reading's own time: every unique key must hold the partitioning column.
-- p_future is always there, so that no date is ever refused; months are split off it ahead of time.
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

-- What the watch shows, polled by it. Columns are the platform's; where it has the table, the alerter
-- fills those of them that are there.
CREATE TABLE IF NOT EXISTS t_device_message (
    id               BIGINT NOT NULL AUTO_INCREMENT,
    device_sn        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    message          TEXT NOT NULL,
    department_info  VARCHAR(255) COMMENT 'the organisation, as its number',
    message_type     VARCHAR(50) NOT NULL DEFAULT 'warning',
    sender_type      VARCHAR(50) NOT NULL DEFAULT 'system',
    receiver_type    VARCHAR(50) NOT NULL DEFAULT 'user' COMMENT 'user or manager',
    user_id          BIGINT,
    org_id           BIGINT,
    customer_id      BIGINT NOT NULL DEFAULT 0,
    message_status   VARCHAR(50) NOT NULL DEFAULT '1',
    responded_number INT NOT NULL DEFAULT 0,
    sent_time        DATETIME,
    received_time    DATETIME,
    is_deleted       TINYINT(1) NOT NULL DEFAULT 0,
    create_time      DATETIME DEFAULT CURRENT_TIMESTAMP,
    update_time      DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    KEY idx_device_status (device_sn, message_status),
    KEY idx_user_status (user_id, message_status)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The tenants' WeChat accounts. Columns are the platform's, except default_address; 0009 adds it to a
-- table that the platform made.
CREATE TABLE IF NOT EXISTS t_wechat_alarm_config (
    id              BIGINT NOT NULL AUTO_INCREMENT,
    customer_id     BIGINT NOT NULL,
    type            VARCHAR(20) NOT NULL COMMENT 'official or enterprise',
    corp_id         VARCHAR(100),
    agent_id        VARCHAR(50),
    secret          VARCHAR(255),
    appid           VARCHAR(100),
    appsecret       VARCHAR(255),
    template_id     VARCHAR(100),
    default_address VARCHAR(128) COMMENT 'who is told where no recipient of the device is known',
    enabled         TINYINT(1) NOT NULL DEFAULT 1,
    create_time     DATETIME DEFAULT CURRENT_TIMESTAMP,
    update_time     DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    KEY idx_customer_type (customer_id, type)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The addresses of the platform's users, for which the platform has no table. user_id 0 stands for
-- every user of the tenant without an address.
CREATE TABLE IF NOT EXISTS t_alert_recipient_address (
    customer_id     BIGINT NOT NULL,
    user_id         BIGINT NOT NULL,
    kind            VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'openid or wecom',
    address         VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    disabled_at      DATETIME COMMENT 'since when the channel rejects the address',
    disabled_errcode INT,
    create_time     DATETIME DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (customer_id, user_id, kind, address)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Messages that the watch polls and displays. Columns are the platform's. If the platform made the
-- table, the alerter fills those of these columns that it has.
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

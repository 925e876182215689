-- Where the platform's users can be reached: it has no such table. user_id 0 stands for everybody
-- of the tenant who has no address of their own.
CREATE TABLE IF NOT EXISTS t_alert_recipient_address (
    customer_id     BIGINT NOT NULL,
    user_id         BIGINT NOT NULL,
    kind            VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'openid (or official)',
    address         VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    refused_at      DATETIME COMMENT 'since when the channel says that it cannot be reached',
    refused_errcode INT,
    create_time     DATETIME DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (customer_id, user_id, kind, address)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

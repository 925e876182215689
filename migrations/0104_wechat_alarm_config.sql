-- The tenants' WeChat accounts. Columns are the platform's; default_address is ours.
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

-- What operators have told a group: `worker pause` and `worker resume`.
CREATE TABLE IF NOT EXISTS ingest_control (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    paused         TINYINT(1) NOT NULL,
    reason         VARCHAR(255) NOT NULL,
    changed_by     VARCHAR(255) NOT NULL,
    changed_at     TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    PRIMARY KEY (consumer_group)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

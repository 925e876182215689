-- How far `worker adopt` has copied each table of an earlier server. A chunk moves it in its own transaction.
CREATE TABLE IF NOT EXISTS adopt_progress (
    source_table VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
        COMMENT 'name under the earlier server, without _before',
    copied_to    BIGINT NULL COMMENT 'greatest id of a copied row',
    last_row     BIGINT NULL COMMENT 'checksum of that row; it tells whether the table was replaced',
    row_count    BIGINT NOT NULL DEFAULT 0 COMMENT 'rows read, each once',
    rows_total   BIGINT NOT NULL DEFAULT 0 COMMENT 'rows of the table, as the server estimates them',
    rate         DOUBLE NOT NULL DEFAULT 0 COMMENT 'rows per second, lately',
    begun_at     TIMESTAMP NULL DEFAULT NULL COMMENT 'start of the pass under way',
    passed_at    TIMESTAMP NULL DEFAULT NULL COMMENT 'start of the last pass that has come to the end',
    updated_at   TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    PRIMARY KEY (source_table)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Rows of an earlier server that cannot become readings, and values that a reading cannot have. Kept for ever.
CREATE TABLE IF NOT EXISTS adopt_set_aside (
    source_table VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    source_id    BIGINT NOT NULL COMMENT 'id of the row there',
    field        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
        COMMENT 'the column of the value; empty: the whole row',
    reason       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    content      MEDIUMTEXT NOT NULL COMMENT 'the row as a JSON object, or the value',
    set_aside_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (source_table, source_id, field)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

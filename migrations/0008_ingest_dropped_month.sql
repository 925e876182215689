-- Months of the main table that were dropped past the retention: how many rows went with them, by whose
-- they were. With these the audit's row counts stay exact; written before the month is dropped, so an
-- entry counts once its month is gone.
CREATE TABLE IF NOT EXISTS ingest_dropped_month (
    month      CHAR(7) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'name of the partition, pYYYYMM',
    bucket     BIGINT NOT NULL COMMENT 'partition of the topic; -1: id 0; -2: other writers',
    row_count  BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    counted_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (month, bucket)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

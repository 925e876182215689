-- A month's rows leave the main table in one step and are counted afterwards, in a table of their own. The
-- name of the count is the month and the time of that step (`p202501_1764480000`), so a month that was
-- interrupted is counted in two parts.
ALTER TABLE ingest_dropped_month
    MODIFY month VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
        COMMENT 'name of the partition, pYYYYMM, and the time at which its rows left the main table';

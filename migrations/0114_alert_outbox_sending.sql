-- What the sender needs beside the bytes: the notice they were made from, so that they can be made
-- anew; since when it is open whether they arrived; the device, whose notifications go in order; the
-- digest that tells of a row together with others; and an index for each question it asks.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_alert_outbox'
       AND column_name = 'notice') = 0,
    'ALTER TABLE t_alert_outbox
        ADD COLUMN device_sn VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
        ADD COLUMN notice MEDIUMTEXT CHARACTER SET utf8mb4 COMMENT ''JSON; what the bytes say'',
        ADD COLUMN repeats INT NOT NULL DEFAULT 0 COMMENT ''how often it was made anew as a repeat'',
        ADD COLUMN uncertain_since BIGINT COMMENT ''epoch ms; it may have arrived since then'',
        ADD COLUMN digest_id BIGINT COMMENT ''the row that tells of this one'',
        ADD KEY idx_device_recipient (device_sn, recipient, state),
        ADD KEY idx_recipient (customer_id, recipient, state, finished_at),
        ADD KEY idx_created (created_at, customer_id, episode_key),
        ADD KEY idx_digest (digest_id)',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

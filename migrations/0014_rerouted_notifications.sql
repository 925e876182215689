-- A notification goes to another address if its recipient refuses it, or if its account does not send. So a
-- row holds whose address it has, how severe its alert is, and the time of its event. `idx_customer_state`
-- finds what waits for an account. `idx_send_order` finds what is due in its order, the most severe first and of
-- these the oldest, without a sort of all that waits and without reading the rows of accounts that rest.
-- `idx_uncertain` finds the messages that may have arrived in the last minute: they count for their recipients,
-- whichever replica sends them.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 't_alert_outbox'
       AND column_name = 'severity') = 0,
    'ALTER TABLE t_alert_outbox
    MODIFY state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ''pending''
        COMMENT ''pending, in_digest, unrouted, sent, dropped, failed, refused, moved'',
    ADD COLUMN severity TINYINT NOT NULL DEFAULT 3 COMMENT ''1 info to 5 critical'',
    ADD COLUMN event_at BIGINT COMMENT ''epoch ms; time of the event. NULL: created_at'',
    ADD COLUMN user_id BIGINT COMMENT ''whose address it is. 0: all users of the tenant; -1: default of the account'',
    ADD KEY idx_customer_state (customer_id, state),
    ADD KEY idx_send_order (state, severity DESC, created_at, id, next_attempt_at, lease_until, customer_id, recipient),
    ADD KEY idx_uncertain (uncertain_since)',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

-- Finds what is due in its order, the most severe first and of these the oldest, without a sort of all that waits.
-- It takes the place of `idx_due`. `idx_uncertain` finds the messages that may have arrived in the last minute: they
-- count for their recipients, whichever replica sends them.
ALTER TABLE t_alert_outbox
    DROP KEY idx_due,
    ADD KEY idx_send_order (state, severity DESC, created_at, id, next_attempt_at),
    ADD KEY idx_uncertain (uncertain_since);

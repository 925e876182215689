-- When each device was heard last, and whose it was then: what silence is counted from.
ALTER TABLE t_alert_device
    ADD COLUMN heard_at BIGINT NOT NULL DEFAULT 0 COMMENT 'Kafka record time, epoch ms; 0: not known',
    ADD COLUMN customer_id BIGINT,
    ADD COLUMN org_id BIGINT,
    ADD COLUMN user_id BIGINT;

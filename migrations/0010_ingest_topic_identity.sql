-- Which topic of that name was accepted. One that is deleted and made again has the same name, another id,
-- and offsets from 0 on; the ledger's offsets are Kafka's plus the base, and never come again.
ALTER TABLE ingest_topic
    ADD COLUMN topic_id VARCHAR(64) NULL COMMENT 'as the brokers say it; NULL: not asked yet',
    ADD COLUMN cluster_id VARCHAR(64) NULL,
    ADD COLUMN base BIGINT NOT NULL DEFAULT 0 COMMENT 'what the offsets of the ledger are ahead of Kafka''s';

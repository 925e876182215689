-- Which kind of service a group is of. Two kinds in one group share its partitions, and each passes what
-- only the other deals with; so a row is claimed by its own kind alone.
ALTER TABLE ingest_progress
    ADD COLUMN kind VARCHAR(16) NULL COMMENT 'worker or alerter; NULL: whoever claims it first';

//! Whose the rows of the main table are, counted: a partition's of the topic, told by their ids, or
//! another writer's. Used by the audit, and where a month is dropped and its rows can be counted for
//! the last time.

/// A stretch of ids: one partition's.
const ID_PARTITION: i64 = 1 << 40;

/// Bucket of rows with id 0: another writer's default, and the first record of partition 0.
pub const ID_ZERO: i64 = -1;

/// What a SELECT asks for: bucket, rows and deliveries, for rows of `partitions` partitions; other ids
/// fall into bucket -2. To be grouped by `bucket`.
pub fn columns(partitions: i64) -> String {
    // The id is the first delivery's source, so another writer's is above the latest one's.
    format!(
        "CAST(CASE WHEN id = 0 THEN {ID_ZERO} \
         WHEN id > 0 AND id < {} AND last_source >= id THEN id DIV {ID_PARTITION} ELSE -2 END AS SIGNED) \
         AS bucket, COUNT(*), CAST(SUM(deliveries) AS SIGNED)",
        partitions * ID_PARTITION
    )
}

/// A SELECT of the number of partitions that any group's ledger knows.
pub const PARTITIONS: &str = "SELECT COALESCE(MAX(`partition`), -1) + 1 FROM ingest_progress";

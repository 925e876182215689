//! Names of the worker's metrics.

/// Readings by outcome: `stored`, `merged`, `dead_lettered`.
pub const READINGS: &str = "readings_total";
/// Readings stored without a tenant: nobody knows their device.
pub const UNBOUND: &str = "readings_unbound_total";
/// Rows that make a batch due at present.
pub const BATCH_ROWS_WANTED: &str = "batch_rows_wanted";
/// Batches that may be in flight at present.
pub const BATCHES_IN_FLIGHT_WANTED: &str = "batches_in_flight_wanted";
/// Batches by what made them due.
pub const BATCHES: &str = "batches_total";
/// Deliveries of a batch.
pub const BATCH_SIZE: &str = "batch_size";
/// From taking a batch to the end of its Redis update.
pub const BATCH_PROCESSING_SECONDS: &str = "batch_processing_seconds";
/// From a record's Kafka time to the flush, by statistic: oldest, mean.
pub const BATCH_QUEUE_WAIT_SECONDS: &str = "batch_queue_wait_seconds";
/// One transaction.
pub const DATABASE_INSERT_SECONDS: &str = "database_insert_seconds";
/// One batch's update of Redis.
pub const REDIS_UPDATE_SECONDS: &str = "redis_update_seconds";
/// From the gateway's receipt to the commit, of the oldest reading of a batch.
pub const END_TO_END_SECONDS: &str = "end_to_end_seconds";
/// Attempts to write a batch that failed, by kind.
pub const WRITE_ERRORS: &str = "write_errors_total";
/// Batches that Redis could not take.
pub const REDIS_ERRORS: &str = "redis_errors_total";
/// Deliveries in memory, waiting or in flight.
pub const BUFFERED: &str = "buffered_deliveries";
/// Deliveries in MySQL that Redis may lack, over this replica's partitions.
pub const REDIS_BEHIND: &str = "redis_behind";
/// Devices gone through to repair Redis, by where their names came from.
pub const REDIS_REPAIRED: &str = "redis_repaired_total";
/// Readings that came after a newer one was shown in Redis.
pub const REDIS_STALE: &str = "redis_stale_total";
/// Dead letters by class.
pub const LETTERS: &str = "dead_letters_total";
/// Whether the dead-letter breaker holds batches back.
pub const BREAKER_OPEN: &str = "dead_letter_breaker_open";

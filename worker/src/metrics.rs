//! The worker's metrics, and what its log says of them every minute.

use ljwx_service::metrics::{LAG_RECORDS, LAG_SECONDS};
use ljwx_service::telemetry::{Item, Service, Shown};

ljwx_service::declare_metrics! {
    /// 1 for the present status of the health endpoint.
    Gauge HEALTH = "worker_health" by "status";
    /// Readings by outcome: `stored`, `merged`, `dead_lettered`.
    Counter READINGS = "readings_total" by "outcome";
    /// Readings stored without a tenant: nobody knows their device.
    Counter UNBOUND = "readings_unbound_total";
    /// Rows that make a batch due at present.
    Gauge BATCH_ROWS_WANTED = "batch_rows_wanted";
    /// Batches that may be in flight at present.
    Gauge BATCHES_IN_FLIGHT_WANTED = "batches_in_flight_wanted";
    /// Batches by what made them due.
    Counter BATCHES = "batches_total" by "reason";
    /// Deliveries of a batch.
    Histogram BATCH_SIZE = "batch_size";
    /// From taking a batch to the end of its Redis update.
    Histogram BATCH_PROCESSING_SECONDS = "batch_processing_seconds";
    /// From a record's Kafka time to the flush, oldest and mean of a batch.
    Histogram BATCH_QUEUE_WAIT_SECONDS = "batch_queue_wait_seconds" by "statistic";
    /// One transaction.
    Histogram DATABASE_INSERT_SECONDS = "database_insert_seconds";
    /// One batch's update of Redis.
    Histogram REDIS_UPDATE_SECONDS = "redis_update_seconds";
    /// From the gateway's receipt to the commit, of the oldest reading of a batch.
    Histogram END_TO_END_SECONDS = "end_to_end_seconds";
    /// Attempts to write a batch that failed.
    Counter WRITE_ERRORS = "write_errors_total" by "kind";
    /// Batches that Redis could not take.
    Counter REDIS_ERRORS = "redis_errors_total";
    /// Deliveries in memory, waiting or in flight.
    Gauge BUFFERED = "buffered_deliveries";
    /// Deliveries in MySQL that Redis may lack, over this replica's partitions.
    Gauge REDIS_BEHIND = "redis_behind";
    /// Devices gone through to repair Redis, by where their names came from.
    Counter REDIS_REPAIRED = "redis_repaired_total" by "source";
    /// Readings that came after a newer one was shown in Redis.
    Counter REDIS_STALE = "redis_stale_total";
    /// Keys of devices in Redis that were no hashes and were replaced.
    Counter REDIS_REPLACED = "redis_replaced_total";
    /// Dead letters.
    Counter LETTERS = "dead_letters_total" by "class";
    /// Dead letters that Kafka did not take as they came, by what was done.
    Counter LETTERS_ALTERED = "dead_letters_altered_total" by "how";
    /// Whether the dead-letter breaker holds batches back.
    Gauge BREAKER_OPEN = "dead_letter_breaker_open";
}

/// What the worker says about itself.
pub const SERVICE: Service = Service {
    name: "worker",
    metrics: DECLARED,
    zeros: &[
        (READINGS, "outcome", &["stored", "merged", "dead_lettered"]),
        (LETTERS, "class", &["undecodable", "data"]),
        (LETTERS_ALTERED, "how", &["elsewhere", "cut"]),
        (WRITE_ERRORS, "kind", &["infrastructure", "schema", "saturated", "data", "fenced"]),
        (REDIS_REPAIRED, "source", &["topic", "mysql"]),
    ],
    summary: &[
        Item::growth("stored", READINGS, "outcome=\"stored\""),
        Item::growth("merged into what was stored", READINGS, "outcome=\"merged\""),
        Item::growth("dead-lettered", READINGS, "outcome=\"dead_lettered\""),
        Item::growth("batches", BATCHES, ""),
        Item::growth("failed writes", WRITE_ERRORS, ""),
        Item::gauge("waiting in Kafka", LAG_RECORDS, Shown::Sum),
        Item::seconds("oldest waiting", LAG_SECONDS),
    ],
};

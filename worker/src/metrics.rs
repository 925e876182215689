//! Declares the metrics of the worker and its minute summary.

use ljwx_ledger::metrics::{DEAD_LETTERS, DEAD_LETTERS_ALTERED, LAG_RECORDS, LAG_SECONDS};
use ljwx_service::telemetry::{ServiceInfo, SummaryFormat, SummaryItem};

ljwx_service::declare_metrics! {
    /// 1 for the present status of the health endpoint.
    Gauge HEALTH = "worker_health" by "status";
    /// Readings by outcome: `stored`, `merged`, `dead_lettered`.
    Counter READINGS = "readings_total" by "outcome";
    /// Readings stored without a tenant: neither the reading nor a binding names one.
    Counter UNBOUND = "readings_unbound_total";
    /// Rows that make a batch due at present.
    Gauge BATCH_ROWS_TARGET = "batch_rows_target";
    /// Most batches in flight at present.
    Gauge BATCHES_IN_FLIGHT_TARGET = "batches_in_flight_target";
    /// Batches by the reason for which they were taken.
    Counter BATCHES = "batches_total" by "reason";
    /// Deliveries in a batch.
    Histogram BATCH_SIZE = "batch_size";
    /// Seconds from the taking of a batch to the end of its Redis update.
    Histogram BATCH_PROCESSING_SECONDS = "batch_processing_seconds";
    /// Seconds from Kafka record time to the taking of the batch: oldest and mean of its records.
    Histogram BATCH_QUEUE_WAIT_SECONDS = "batch_queue_wait_seconds" by "statistic";
    /// Seconds of one attempt to write a batch to MySQL.
    Histogram DATABASE_INSERT_SECONDS = "database_insert_seconds";
    /// Seconds of the Redis update of one batch.
    Histogram REDIS_UPDATE_SECONDS = "redis_update_seconds";
    /// Seconds from the gateway's receipt to the commit, of the oldest reading of each segment.
    Histogram END_TO_END_SECONDS = "end_to_end_seconds";
    /// Failed attempts to write a batch, by kind of error.
    Counter WRITE_ERRORS = "write_errors_total" by "kind";
    /// Batches that could not be written to Redis.
    Counter REDIS_ERRORS = "redis_errors_total";
    /// Deliveries in memory, waiting or in flight.
    Gauge BUFFERED = "buffered_deliveries";
    /// Memory of these deliveries, in bytes.
    Gauge BUFFERED_BYTES = "buffered_bytes";
    /// Memory from which on no more deliveries are taken in, in bytes.
    Gauge BUFFERED_BYTES_MAX = "buffered_bytes_max";
    /// Deliveries in MySQL that may be missing in Redis, over this replica's partitions.
    Gauge REDIS_BEHIND = "redis_behind";
    /// Devices processed to repair Redis, by the source of their serial numbers.
    Counter REDIS_REPAIRED = "redis_repaired_total" by "source";
    /// Newest readings of a batch for which Redis already had a newer one.
    Counter REDIS_STALE = "redis_stale_total";
    /// Redis keys of devices that were no hashes and were replaced.
    Counter REDIS_REPLACED = "redis_replaced_total";
    /// 1 while the dead-letter breaker is open and batches wait, else 0.
    Gauge BREAKER_OPEN = "dead_letter_breaker_open";
    /// Seconds from the sending of the last canary until it was in MySQL, or until now.
    Gauge CANARY_VISIBLE = "canary_visible_seconds";
}

/// Name, metrics and minute summary of the worker.
pub const SERVICE: ServiceInfo = ServiceInfo {
    name: "worker",
    metrics: &[DECLARED, ljwx_ledger::metrics::DECLARED],
    zeros: &[
        (READINGS, "outcome", &["stored", "merged", "dead_lettered"]),
        (DEAD_LETTERS, "class", &["undecodable", "tombstone", "data"]),
        (DEAD_LETTERS_ALTERED, "how", &["elsewhere", "cut"]),
        (WRITE_ERRORS, "kind", &["infrastructure", "schema", "saturated", "data", "fenced"]),
        (REDIS_REPAIRED, "source", &["topic", "mysql"]),
    ],
    summary: &[
        SummaryItem::growth("stored", READINGS, "outcome=\"stored\""),
        SummaryItem::growth("merged into what was stored", READINGS, "outcome=\"merged\""),
        SummaryItem::growth("dead-lettered", READINGS, "outcome=\"dead_lettered\""),
        SummaryItem::growth("batches", BATCHES, ""),
        SummaryItem::growth("failed writes", WRITE_ERRORS, ""),
        SummaryItem::gauge("waiting in Kafka", LAG_RECORDS, SummaryFormat::Sum),
        SummaryItem::seconds("oldest waiting", LAG_SECONDS),
    ],
};

//! Declares the metrics of a consumer group's member and of its ledger.
//!
//! The modules that set the metrics decide when. `ljwx_service::metrics` has the form of a
//! declaration.

use metrics::{counter, gauge};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use ljwx_service::kafka::error_label;

ljwx_service::declare_metrics! {
    /// 1 while the dependency answers: kafka, mysql; redis: and while Redis accepts the process's
    /// commands, or is not used.
    Gauge DEPENDENCY_UP = "dependency_up" by "dependency";
    /// Partitions of the readings topic.
    Gauge TOPIC_PARTITIONS = "topic_partitions";
    /// Partitions that this process owns.
    Gauge PARTITIONS_OWNED = "consumer_partitions_owned";
    /// Assigned partitions that are not claimed in the ledger.
    Gauge PARTITIONS_UNCLAIMED = "consumer_partitions_unclaimed";
    /// Records behind the ledger, of all partitions of the group.
    Gauge LAG_RECORDS = "consumer_lag_records" by "group", "partition";
    /// Age of the oldest unprocessed record; 0 without lag.
    Gauge LAG_SECONDS = "consumer_lag_seconds" by "group", "partition";
    /// Time without progress, with lag or with a position behind the end of the topic.
    Gauge STALLED_SECONDS = "consumer_stalled_seconds" by "group", "partition";
    /// Time until retention removes the oldest unprocessed record, by time or, estimated, by size.
    Gauge RETENTION_LEFT_SECONDS = "consumer_retention_left_seconds" by "group", "partition";
    /// 1 while an owner has several lagging partitions and no other bottleneck.
    Gauge MORE_REPLICAS_HELP = "consumer_more_replicas_help" by "group";
    /// 1 while an operator's command pauses the group.
    Gauge PAUSED = "consumer_paused" by "group";
    /// Errors of the Kafka consumer.
    Counter CONSUMER_ERRORS = "consumer_errors_total" by "code";
    /// Offset commits that Kafka did not take; the ledger is not affected.
    Counter COMMIT_ERRORS = "consumer_commit_errors_total" by "code";
    /// Dead letters by class of error: undecodable, tombstone, data.
    Counter DEAD_LETTERS = "dead_letters_total" by "class";
    /// Dead letters that Kafka did not take unchanged, by the alteration.
    Counter DEAD_LETTERS_ALTERED = "dead_letters_altered_total" by "how";
    /// New producers of dead letters in the place of one that failed for good.
    Counter DEAD_LETTER_PRODUCER_RESTARTS = "dead_letter_producer_restarts_total" by "code";
    /// Offsets that the ledger does not explain.
    Gauge LEDGER_IMBALANCE = "ledger_imbalance_records" by "group";
    /// 1 while a batch is held: MySQL or the dead-letter topic does not take it, or the breaker is
    /// open.
    Gauge BATCH_HELD = "batch_held";
    /// Connections of the pool by state: `in_use`, idle.
    Gauge DATABASE_CONNECTIONS = "database_connections" by "state";
    /// Limit of the pool's connections.
    Gauge DATABASE_CONNECTIONS_MAX = "database_connections_max";
    /// Writes waiting for a connection.
    Gauge DATABASE_CONNECTIONS_WAITING = "database_connections_waiting";
    /// The server's `Threads_connected`.
    Gauge THREADS_CONNECTED = "mysql_threads_connected";
    /// The server's `Threads_running`.
    Gauge THREADS_RUNNING = "mysql_threads_running";
    /// The server's `Questions`.
    Counter QUESTIONS = "mysql_questions_total";
    /// The server's `Queries`.
    Counter QUERIES = "mysql_queries_total";
    /// Time by which the server's clock is ahead of this host's; negative: behind.
    Gauge MYSQL_CLOCK_OFFSET_SECONDS = "mysql_clock_offset_seconds";
    /// Entries of the caches.
    Gauge CACHE_ENTRIES = "cache_entries" by "cache";
    /// Limit of each cache.
    Gauge CACHE_ENTRIES_MAX = "cache_entries_max" by "cache";
}

/// Exports the size and the limit of a cache.
pub fn export_cache(name: &'static str, entries: u64, max: u64) {
    gauge!(CACHE_ENTRIES, "cache" => name).set(entries as f64);
    gauge!(CACHE_ENTRIES_MAX, "cache" => name).set(max as f64);
}

/// Counts a failed offset commit. The commit of a stale generation is no failure: the new owner
/// continues from the ledger.
pub(crate) fn count_commit_error(error: &KafkaError) {
    let code = error.rdkafka_error_code();
    if code == Some(RDKafkaErrorCode::NoOffset) {
        return;
    }
    counter!(COMMIT_ERRORS, "code" => error_label(code)).increment(1);
}

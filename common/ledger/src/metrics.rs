//! The metrics of whoever reads a consumer group's deliveries and keeps its ledger.
//!
//! The modules that set them decide when; `ljwx_service::metrics` says how they are declared.

use metrics::{counter, gauge};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use ljwx_service::kafka::error_label;

ljwx_service::declare_metrics! {
    /// 1 while it answers: kafka, mysql, redis (or none is used).
    Gauge DEPENDENCY_UP = "dependency_up" by "dependency";
    /// Partitions of the readings topic.
    Gauge TOPIC_PARTITIONS = "topic_partitions";
    /// Partitions that this process works on.
    Gauge PARTITIONS_OWNED = "partitions_owned";
    /// Partitions assigned by Kafka that wait for their row in the ledger.
    Gauge PARTITIONS_HELD = "partitions_held";
    /// Records behind the ledger, of all partitions of the group.
    Gauge LAG_RECORDS = "consumer_lag_records" by "group", "partition";
    /// Age of the oldest unprocessed record; 0 without lag.
    Gauge LAG_SECONDS = "consumer_lag_seconds" by "group", "partition";
    /// How long there has been lag and no progress.
    Gauge STALLED_SECONDS = "consumer_stalled_seconds" by "group", "partition";
    /// Until retention removes the oldest unprocessed record.
    Gauge RETENTION_LEFT_SECONDS = "consumer_retention_left_seconds" by "group", "partition";
    /// 1 while an owner has several lagging partitions and nothing else holds it back.
    Gauge MORE_REPLICAS_HELP = "would_more_replicas_help" by "group";
    /// 1 while an operator's command keeps the group from consuming.
    Gauge PAUSED = "consumer_paused" by "group";
    /// Errors of the consumer.
    Counter CONSUMER_ERRORS = "consumer_errors_total" by "code";
    /// Offsets that could not be committed to the group; the ledger is not concerned.
    Counter COMMIT_ERRORS = "commit_errors_total" by "code";
    /// Offsets that the ledger does not explain.
    Gauge LEDGER_IMBALANCE = "ledger_imbalance_records" by "group";
    /// 1 while the database does not take a batch.
    Gauge BATCH_HELD = "batch_held";
    /// Connections of the pool by state: `in_use`, idle.
    Gauge DATABASE_CONNECTIONS = "database_connections" by "state";
    /// How many connections the pool may have.
    Gauge DATABASE_CONNECTIONS_MAX = "database_connections_max";
    /// Writes that wait for a connection.
    Gauge DATABASE_CONNECTIONS_WAITING = "database_connections_waiting";
    /// The server's `Threads_connected`.
    Gauge THREADS_CONNECTED = "mysql_threads_connected";
    /// The server's `Threads_running`.
    Gauge THREADS_RUNNING = "mysql_threads_running";
    /// The server's `Questions`.
    Counter QUESTIONS = "mysql_questions_total";
    /// The server's `Queries`.
    Counter QUERIES = "mysql_queries_total";
    /// Entries of the bounded memories.
    Gauge CACHE_ENTRIES = "cache_entries" by "cache";
    /// Their bounds.
    Gauge CACHE_ENTRIES_MAX = "cache_entries_max" by "cache";
}

/// Shows how full a bounded memory is.
pub fn cache(name: &'static str, entries: u64, max: u64) {
    gauge!(CACHE_ENTRIES, "cache" => name).set(entries as f64);
    gauge!(CACHE_ENTRIES_MAX, "cache" => name).set(max as f64);
}

/// Counts an error of committing offsets to the group. A stale generation's commit is no fault: the new owner goes on from the ledger.
pub(crate) fn count_commit_error(error: &KafkaError) {
    let code = error.rdkafka_error_code();
    if code == Some(RDKafkaErrorCode::NoOffset) {
        return;
    }
    counter!(COMMIT_ERRORS, "code" => error_label(code)).increment(1);
}

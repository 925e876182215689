//! Names of the metrics that more than one service has, and what all histograms share.

/// Buckets of every histogram in seconds: 1 ms to 60 s.
pub const SECONDS_BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Records waiting in the producer's queue.
pub const PRODUCER_QUEUE_RECORDS: &str = "producer_queue_records";

/// Partitions this process owns.
pub const PARTITIONS_OWNED: &str = "partitions_owned";

/// Partitions assigned by Kafka that wait for their row in the ledger.
pub const PARTITIONS_HELD: &str = "partitions_held";

/// Errors of the consumer, by code.
pub const CONSUMER_ERRORS: &str = "consumer_errors_total";

/// Offsets that could not be committed to the group, by code; the ledger is not concerned.
pub const COMMIT_ERRORS: &str = "commit_errors_total";

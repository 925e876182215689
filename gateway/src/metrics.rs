//! The gateway's metrics, and what its log says of them every minute.

use common::metrics::PRODUCER_QUEUE_RECORDS;
use common::telemetry::{Item, Service, Shown};

common::declare_metrics! {
    /// Requests answered.
    Counter REQUESTS = "gateway_requests_total" by "route", "status";
    /// Requests being answered.
    Gauge REQUESTS_IN_FLIGHT = "gateway_requests_in_flight";
    /// Time from the end of the request's head to its answer.
    Histogram REQUEST_SECONDS = "gateway_request_seconds" by "route";
    /// Readings by outcome: accepted, duplicate, rejected.
    Counter READINGS = "gateway_readings_total" by "outcome";
    /// Rejected items.
    Counter REJECTIONS = "gateway_rejections_total" by "code";
    /// Fields left out of accepted readings.
    Counter WARNINGS = "gateway_warnings_total" by "field", "code";
    /// What answers of 503 asked their senders to wait.
    Histogram RETRY_AFTER = "gateway_retry_after_seconds";
}

/// What the gateway says about itself.
pub const SERVICE: Service = Service {
    name: "gateway",
    metrics: DECLARED,
    zeros: &[(READINGS, "outcome", &["accepted", "duplicate", "rejected"])],
    summary: &[
        Item::growth("requests", REQUESTS, ""),
        Item::growth("requests not acknowledged", REQUESTS, "status=\"503\""),
        Item::growth("readings accepted", READINGS, "outcome=\"accepted\""),
        Item::growth("readings that repeat the one before", READINGS, "outcome=\"duplicate\""),
        Item::growth("items rejected", READINGS, "outcome=\"rejected\""),
        Item::gauge("waiting for Kafka", PRODUCER_QUEUE_RECORDS, Shown::Largest),
    ],
};

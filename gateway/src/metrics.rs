//! The gateway's metrics, and its minute summary.

use ljwx_service::http::REFUSED_REASONS;
use ljwx_service::metrics::PRODUCER_QUEUE_RECORDS;
use ljwx_service::telemetry::{ServiceInfo, SummaryFormat, SummaryItem};

use crate::request_error::ErrorCode;

ljwx_service::declare_metrics! {
    /// Requests by the status of their answer; `client_closed`: the client left before the answer.
    Counter REQUESTS = "gateway_requests_total" by "route", "status";
    /// Requests with a complete body that wait for their answer.
    Gauge REQUESTS_IN_FLIGHT = "gateway_requests_in_flight";
    /// Time from the end of the head to the answer, or until the client left.
    Histogram REQUEST_SECONDS = "gateway_request_seconds" by "route";
    /// Refused requests.
    Counter REFUSALS = "gateway_refusals_total" by "code";
    /// Readings by outcome: accepted, duplicate, rejected.
    Counter READINGS = "gateway_readings_total" by "outcome";
    /// Bodies parsed for a dry run. No other counter of readings has them.
    Counter DRY_RUNS = "gateway_dry_runs_total";
    /// Rejected items.
    Counter REJECTIONS = "gateway_rejections_total" by "code";
    /// Bytes of rejects passed to Kafka, headers included.
    Counter REJECTS_BYTES = "gateway_rejects_bytes_total";
    /// Bytes of rejects that may be passed to Kafka in a second.
    Gauge REJECTS_BYTES_MAX = "gateway_rejects_bytes_per_second_max";
    /// Rejects not kept because they come faster than that; their bodies get 503.
    Counter REJECTS_THROTTLED = "gateway_rejects_throttled_total";
    /// Fields left out of accepted readings.
    Counter WARNINGS = "gateway_warnings_total" by "field", "code";
    /// New producers in the place of one that failed for good.
    Counter PRODUCER_RESTARTS = "gateway_producer_restarts_total" by "code";
    /// Bodies refused because the producer had no room for a record that had a place; always 0.
    Counter QUEUE_FULL_MIDWAY = "gateway_queue_full_midway_total";
    /// Wait that 503 answers asked for.
    Histogram RETRY_AFTER = "gateway_retry_after_seconds";
    /// Connections by state: head, request, idle.
    Gauge CONNECTIONS = "gateway_connections" by "state";
    /// Connections closed without a route's answer.
    Counter CONNECTIONS_REFUSED = "gateway_connections_refused_total" by "reason";
    /// Bytes of the budget that bodies hold, received and decompressed.
    Gauge BYTES_IN_FLIGHT = "gateway_bytes_in_flight";
    /// Time from the end of the head to the end of its body.
    Histogram BODY_SECONDS = "gateway_body_seconds";
    /// Most memory that the process can need with its settings.
    Gauge MEMORY_BOUND = "gateway_memory_bound_bytes";
}

/// The gateway as its telemetry describes it.
pub const SERVICE: ServiceInfo = ServiceInfo {
    name: "gateway",
    metrics: &[DECLARED],
    zeros: &[
        (READINGS, "outcome", &["accepted", "duplicate", "rejected"]),
        (REFUSALS, "code", &CODES),
        (CONNECTIONS_REFUSED, "reason", REFUSED_REASONS),
    ],
    summary: &[
        SummaryItem::growth("requests", REQUESTS, ""),
        SummaryItem::growth("requests not acknowledged", REQUESTS, "status=\"503\""),
        SummaryItem::growth("readings accepted", READINGS, "outcome=\"accepted\""),
        SummaryItem::growth(
            "readings that repeat the one before",
            READINGS,
            "outcome=\"duplicate\"",
        ),
        SummaryItem::growth("items rejected", READINGS, "outcome=\"rejected\""),
        SummaryItem::gauge("waiting for Kafka", PRODUCER_QUEUE_RECORDS, SummaryFormat::Largest),
    ],
};

const CODES: [&str; ErrorCode::ALL.len()] = {
    let mut codes = [""; ErrorCode::ALL.len()];
    let mut at = 0;
    while at < codes.len() {
        codes[at] = ErrorCode::ALL[at].as_str();
        at += 1;
    }
    codes
};

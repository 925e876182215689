//! Names of the gateway's metrics.

/// Requests by route and status.
pub const REQUESTS: &str = "gateway_requests_total";
/// Time from the request's first byte to its answer, by route.
pub const REQUEST_SECONDS: &str = "gateway_request_seconds";
/// Readings by outcome: accepted, duplicate, rejected.
pub const READINGS: &str = "gateway_readings_total";
/// Rejected items by code.
pub const REJECTIONS: &str = "gateway_rejections_total";
/// Warnings by field and code.
pub const WARNINGS: &str = "gateway_warnings_total";
/// Seconds that the last 503 asked its sender to wait.
pub const RETRY_AFTER: &str = "gateway_retry_after_seconds";

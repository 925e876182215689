//! Serves `GET /api/batch_processor/health` on the admin port.

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;

use super::Health;

/// Returns the route. It answers 503 while unhealthy, else 200, with the status as JSON.
pub fn route(health: Health) -> Router {
    Router::new().route(
        "/api/batch_processor/health",
        get(async move || {
            let report = health.report(Timestamp::now().as_millisecond());
            let unhealthy = report.status == "unhealthy";
            let status = if unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            (status, Json(report))
        }),
    )
}

//! The public routes: reads a request within its bounds, takes it in, answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use axum::routing::post;
use common::metrics::Counted;
use jiff::Timestamp;
use metrics::{counter, histogram};
use tokio::sync::Semaphore;

use crate::answer::{self, Refusal};
use crate::body;
use crate::ingest::{Ingest, NotIngested, Policy};
use crate::metrics::{REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT, RETRY_AFTER};
use crate::span::RequestSpan;

/// What the routes need.
#[derive(Clone)]
pub struct Routes {
    pub ingest: Ingest,
    pub body_bytes_max: usize,
    pub request_timeout: Duration,
    pub message_timeout: Duration,
    pub slots: Arc<Semaphore>,
    pub draining: Arc<AtomicBool>,
}

/// Route of the devices in the field.
pub const DEVICE_ROUTE: &str = "/upload_health_data";

/// Route of everybody else.
pub const API_ROUTE: &str = "/v1/readings";

impl Routes {
    /// The public routes.
    pub fn router(self) -> Router {
        Router::new()
            .route(
                DEVICE_ROUTE,
                post(async |State(routes): State<Self>, request| {
                    routes.handle(Policy::Device, DEVICE_ROUTE, request).await
                }),
            )
            .route(
                API_ROUTE,
                post(async |State(routes): State<Self>, request| {
                    routes.handle(Policy::Api, API_ROUTE, request).await
                }),
            )
            .with_state(self)
    }

    async fn handle(&self, policy: Policy, route: &'static str, request: Request) -> Response {
        let started = Instant::now();
        let _in_flight = Counted::begin(REQUESTS_IN_FLIGHT);
        let span = RequestSpan::start(route, request.headers());
        let response = match self.take_in(policy, request, &span).await {
            Ok(result) => answer::ingested(policy, &result),
            Err(refusal) => answer::refused(policy, refusal),
        };
        let status = response.status();
        span.end(status);
        counter!(REQUESTS, "route" => route, "status" => status.as_str().to_owned()).increment(1);
        histogram!(REQUEST_SECONDS, "route" => route).record(started.elapsed());
        response
    }

    async fn take_in(
        &self,
        policy: Policy,
        request: Request,
        span: &RequestSpan,
    ) -> Result<crate::ingest::Ingested, Refusal> {
        let received_at = Timestamp::now();
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::Unavailable { retry_after: DRAINING_RETRY_AFTER, draining: true });
        }
        let Ok(_slot) = self.slots.try_acquire() else { return Err(self.unavailable()) };
        if policy == Policy::Api && !is_json(request.headers()) {
            return Err(Refusal::ContentType);
        }
        // The rest of the request's time belongs to Kafka's confirmation.
        let body_timeout = self.request_timeout - self.message_timeout;
        let body = body::read(request.into_body(), self.body_bytes_max, body_timeout)
            .await
            .map_err(Refusal::Body)?;
        self.ingest.ingest(&body, policy, received_at, span).await.map_err(|reason| match reason {
            NotIngested::Empty => Refusal::Empty,
            NotIngested::Unavailable(error) => {
                tracing::debug!(%error, "body not acknowledged");
                self.unavailable()
            }
        })
    }

    fn unavailable(&self) -> Refusal {
        let retry_after = self.ingest.records.publisher.retry_after(rand::random());
        histogram!(RETRY_AFTER).record(retry_after as f64);
        Refusal::Unavailable { retry_after, draining: false }
    }
}

/// Another replica is there already, or this one is back within seconds.
const DRAINING_RETRY_AFTER: u64 = 2;

/// A content type that is missing is taken for JSON, as the body's parser will find out.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return true };
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

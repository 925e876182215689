//! Serves the public routes: admits a request, reads its body, passes it to `ingest` and answers.
//!
//! Leaves connections to `ljwx_service::http` and the readings to `ingest`.

mod headers;
pub mod read_body;
mod response;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::EXPECT;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::post;
use jiff::Timestamp;
use ljwx_reading::content_encoding::OpenError;
use ljwx_service::backoff;
use ljwx_service::kafka::topic_safety::watch::TopicSafety;
use ljwx_service::metrics::GaugeGuard;
use metrics::{counter, histogram};
use tokio::sync::Semaphore;

use self::headers::Coding;
use self::read_body::{BodyReadError, BodyReader, ReceivedBody};
use self::response::Responder;
use crate::admission::kafka_gate::{KafkaGate, Passage};
use crate::admission::shared_bucket::SharedBucket;
use crate::ingest::{Ingest, IngestError, IngestResult, RoutePolicy};
use crate::items::BodyContent;
use crate::metrics::{REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT, RETRY_AFTER};
use crate::request_error::{ErrorCode, RequestError};
use crate::request_span::{self, RequestSpan, TraceCallers};

/// The parts that the routes need.
pub struct Routes {
    pub ingest: Ingest,
    pub kafka: KafkaGate,
    pub topics: TopicSafety,
    pub bodies: BodyReader,
    pub answer_timeout: Duration,
    pub slots: Semaphore,
    pub trace_callers: TraceCallers,
    /// Spans that may be recorded although the sampler did not choose them.
    pub forced_spans: SharedBucket,
}

/// The public routes and their clients. Each route takes POST alone.
pub const ROUTES: [(&str, RoutePolicy); 2] =
    [("/upload_health_data", RoutePolicy::Device), ("/v1/readings", RoutePolicy::Api)];

/// Prefix of the API's paths.
const API_PATHS: &str = "/v1/";

/// Label in metrics for all paths without a route.
const NO_ROUTE: &str = "none";

/// The status in metrics of a request whose client has left before the answer.
const CLIENT_CLOSED: &str = "client_closed";

/// A clock that shows an earlier time was never set: the hardware may begin in 1970 or 2000. Readings
/// would be more than a day ahead of it, and rejected.
pub const CLOCK_MIN: Timestamp = Timestamp::constant(1_735_689_600, 0);

impl Routes {
    /// Builds the router of the public port.
    pub fn router(self) -> Router {
        let route = |policy: RoutePolicy, route: &'static str| {
            post(
                async move |State(routes): State<Arc<Self>>,
                            ConnectInfo(peer): ConnectInfo<SocketAddr>,
                            request: Request| {
                    routes.handle(policy, route, peer, request).await
                },
            )
        };
        ROUTES
            .into_iter()
            .fold(Router::new(), |router, (path, policy)| router.route(path, route(policy, path)))
            .method_not_allowed_fallback(Self::unknown)
            .fallback(Self::unknown)
            .with_state(Arc::new(self))
    }

    /// Answers an unknown path or method, in the form that clients of such a path expect.
    async fn unknown(
        State(routes): State<Arc<Self>>,
        method: Method,
        request: Request,
    ) -> Response {
        let path = request.uri().path();
        let (route, code) = match ROUTES.into_iter().find(|(route, _)| *route == path) {
            Some((route, _)) => (route, ErrorCode::MethodNotAllowed),
            None => (NO_ROUTE, ErrorCode::NotFound),
        };
        let policy =
            if path.starts_with(API_PATHS) { RoutePolicy::Api } else { RoutePolicy::Device };
        let answer =
            Responder { policy, zone: &routes.ingest.zone, request_id: request_span::new_id() };
        let request_id = answer.request_id.as_str();
        tracing::debug!(%method, code = code.as_str(), request_id, "request matches no route");
        let response = answer.error_response(code.into());
        count(route, Some(response.status()));
        response
    }

    async fn handle(
        &self,
        policy: RoutePolicy,
        route: &'static str,
        peer: SocketAddr,
        request: Request,
    ) -> Response {
        let mut counted = CountedRequest { route, started: Instant::now(), status: None };
        let headers = request.headers();
        let caller = match policy {
            RoutePolicy::Device => None,
            RoutePolicy::Api => self.trace_callers.context(peer.ip(), headers),
        };
        let span = RequestSpan::start(route, caller, headers, &self.forced_spans);
        let answer = Responder { policy, zone: &self.ingest.zone, request_id: span.request_id() };
        let (error_response, response) = match self.take_in(policy, request, &span).await {
            Ok(result) => (answer.error_code(&result), answer.ingested(result)),
            Err(error_code) => (Some(error_code.code), answer.error_response(error_code)),
        };
        if let Some(code) = error_response {
            let (request_id, client_id) = (answer.request_id.as_str(), span.client_id());
            tracing::debug!(route, code = code.as_str(), request_id, client_id, "request rejected");
        }
        span.end(response.status());
        counted.status = Some(response.status());
        response
    }

    /// Rejects what the head alone rules out before it reads the body.
    async fn take_in(
        &self,
        policy: RoutePolicy,
        request: Request,
        span: &RequestSpan,
    ) -> Result<IngestResult, RequestError> {
        let received_at = Timestamp::now();
        let dry_run = policy == RoutePolicy::Api
            && headers::is_dry_run(request.uri().query())
                .map_err(|_| ErrorCode::InvalidParameter)?;
        let _passage = if dry_run { None } else { Some(self.admit(received_at)?) };
        if self.slots.available_permits() == 0 {
            return Err(self.refused());
        }
        let coding = acceptable(policy, request.headers())?;
        let expected = request.headers().contains_key(EXPECT);
        let body = self.bodies.read(request.into_body(), expected).await;
        let body = body.map_err(|failure| self.body_error(failure))?;
        let Ok(_slot) = self.slots.try_acquire() else { return Err(self.refused()) };
        let _in_flight = GaugeGuard::begin(REQUESTS_IN_FLIGHT);
        let taking_in = self.take_in_body(policy, dry_run, body, coding, received_at, span);
        match tokio::time::timeout(self.answer_timeout, taking_in).await {
            Ok(result) => result,
            Err(_) => {
                not_acknowledged(span, "--answer-timeout ran out");
                Err(self.unavailable())
            }
        }
    }

    /// Admits a body that is to be published: the clock is set, the topics are safe, and Kafka
    /// acknowledges.
    fn admit(&self, received_at: Timestamp) -> Result<Passage<'_>, RequestError> {
        // A record in an unsafe topic might be lost after its 200.
        if received_at < CLOCK_MIN || !self.topics.allows_use() {
            return Err(self.refused());
        }
        self.kafka.enter().ok_or_else(|| self.refused())
    }

    async fn take_in_body(
        &self,
        policy: RoutePolicy,
        dry_run: bool,
        body: ReceivedBody,
        coding: Coding,
        received_at: Timestamp,
        span: &RequestSpan,
    ) -> Result<IngestResult, RequestError> {
        let ReceivedBody { bytes, mut held } = body;
        let opened;
        let content = match coding {
            Some(encoding) if !bytes.is_empty() => {
                let most = self.bodies.bytes_max;
                held.cover(bytes.len() + most).map_err(|_| self.refused())?;
                // A few bytes may open to the largest body.
                match self.ingest.off_thread(most, || encoding.open(&bytes, most)).await {
                    Ok(whole) => {
                        opened = whole;
                        held.shrink_to(bytes.len() + opened.len());
                        BodyContent::Open(&opened)
                    }
                    Err(OpenError::TooLarge) => return Err(ErrorCode::PayloadTooLarge.into()),
                    Err(OpenError::Broken) => {
                        held.shrink_to(bytes.len());
                        BodyContent::Broken { received: &bytes, encoding }
                    }
                }
            }
            _ => BodyContent::Open(&bytes),
        };
        let taken = if dry_run {
            self.ingest.dry_run(content, received_at, held).await
        } else {
            self.ingest.ingest(content, policy, received_at, span).await
        };
        taken.map_err(|reason| match reason {
            IngestError::Empty => ErrorCode::EmptyBody.into(),
            IngestError::Unavailable(error) => {
                not_acknowledged(span, &error.to_string());
                self.unavailable()
            }
            IngestError::NoRoomForRejects(wait) => {
                not_acknowledged(span, "rejects come faster than --rejects-bytes-per-s");
                refuse(backoff::retry_after(wait.as_secs_f64(), rand::random()))
            }
        })
    }

    fn body_error(&self, failure: BodyReadError) -> RequestError {
        match failure {
            BodyReadError::TooLarge => ErrorCode::PayloadTooLarge.into(),
            BodyReadError::Stalled => ErrorCode::BodyTimeout.into(),
            BodyReadError::Malformed => ErrorCode::MalformedBody.into(),
            BodyReadError::NoRoom => self.refused(),
        }
    }

    /// Refuses a body that no one has parsed. It counts as one record that comes back.
    fn refused(&self) -> RequestError {
        self.ingest.records.publisher.refused(1);
        self.unavailable()
    }

    fn unavailable(&self) -> RequestError {
        refuse(self.ingest.records.publisher.retry_after(rand::random()))
    }
}

/// Counts a request and its time when it ends. The server drops the handler of a client that has
/// closed its connection, so no code after the handler's waits would count that request.
struct CountedRequest {
    route: &'static str,
    started: Instant,
    /// The status of the answer; `None` before it.
    status: Option<StatusCode>,
}

impl Drop for CountedRequest {
    fn drop(&mut self) {
        histogram!(REQUEST_SECONDS, "route" => self.route).record(self.started.elapsed());
        count(self.route, self.status);
    }
}

/// Counts a request with the status of its answer.
fn count(route: &'static str, status: Option<StatusCode>) {
    let status = status.map_or_else(|| CLIENT_CLOSED.to_owned(), |code| code.as_str().to_owned());
    counter!(REQUESTS, "route" => route, "status" => status).increment(1);
}

fn refuse(retry_after: u64) -> RequestError {
    histogram!(RETRY_AFTER).record(retry_after as f64);
    RequestError { code: ErrorCode::Unavailable, retry_after: Some(retry_after) }
}

fn not_acknowledged(span: &RequestSpan, error: &str) {
    let (request_id, client_id) = (span.request_id(), span.client_id());
    tracing::debug!(error, request_id, client_id, "body not acknowledged");
}

fn acceptable(policy: RoutePolicy, headers: &HeaderMap) -> Result<Coding, RequestError> {
    if policy == RoutePolicy::Api && !headers::is_json(headers) {
        return Err(ErrorCode::UnsupportedMediaType.into());
    }
    headers::coding(headers).map_err(|_| ErrorCode::UnsupportedEncoding.into())
}

#[cfg(test)]
mod tests;

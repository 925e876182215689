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
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::post;
use jiff::Timestamp;
use ljwx_reading::content_encoding::OpenError;
use ljwx_service::metrics::Counted;
use metrics::{counter, histogram};
use tokio::sync::Semaphore;

use self::headers::Coding;
use self::read_body::{Bodies, BodyFailure, Received};
use self::response::Answer;
use crate::ingest::{Ingest, Ingested, NotIngested, OFF_THREAD_BYTES, Policy};
use crate::items::Content;
use crate::metrics::{REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT, RETRY_AFTER};
use crate::request_error::{Code, Refusal};
use crate::request_span::{self, RequestSpan, TraceCallers};

/// The parts that the routes need.
pub struct Routes {
    pub ingest: Ingest,
    pub bodies: Bodies,
    pub answer_timeout: Duration,
    pub slots: Semaphore,
    pub trace_callers: TraceCallers,
}

/// Route of the devices in the field.
pub const DEVICE_ROUTE: &str = "/upload_health_data";

/// Route of API clients.
pub const API_ROUTE: &str = "/v1/readings";

/// Prefix of the API's paths.
const API_PATHS: &str = "/v1/";

/// Label in metrics for all paths without a route.
const NO_ROUTE: &str = "none";

impl Routes {
    /// Builds the router of the public port.
    pub fn router(self) -> Router {
        let route = |policy: Policy, route: &'static str| {
            post(
                async move |State(routes): State<Arc<Self>>,
                            ConnectInfo(peer): ConnectInfo<SocketAddr>,
                            request: Request| {
                    routes.handle(policy, route, peer, request).await
                },
            )
        };
        Router::new()
            .route(DEVICE_ROUTE, route(Policy::Device, DEVICE_ROUTE))
            .route(API_ROUTE, route(Policy::Api, API_ROUTE))
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
        let (route, code) = match path {
            DEVICE_ROUTE => (DEVICE_ROUTE, Code::MethodNotAllowed),
            API_ROUTE => (API_ROUTE, Code::MethodNotAllowed),
            _ => (NO_ROUTE, Code::NotFound),
        };
        let policy = if path.starts_with(API_PATHS) { Policy::Api } else { Policy::Device };
        let answer =
            Answer { policy, zone: &routes.ingest.zone, request_id: request_span::new_id() };
        let request_id = answer.request_id.as_str();
        tracing::debug!(%method, code = code.as_str(), request_id, "no route");
        counted(route, answer.refused(code.into()))
    }

    async fn handle(
        &self,
        policy: Policy,
        route: &'static str,
        peer: SocketAddr,
        request: Request,
    ) -> Response {
        let started = Instant::now();
        let headers = request.headers();
        let caller = match policy {
            Policy::Device => None,
            Policy::Api => self.trace_callers.context(peer.ip(), headers),
        };
        let span = RequestSpan::start(route, caller, headers);
        let answer = Answer { policy, zone: &self.ingest.zone, request_id: span.request_id() };
        let (refused, response) = match self.take_in(policy, request, &span).await {
            Ok(result) => (answer.refusal(&result), answer.ingested(&result)),
            Err(refusal) => (Some(refusal.code), answer.refused(refusal)),
        };
        if let Some(code) = refused {
            let (request_id, client_id) = (answer.request_id.as_str(), span.client_id());
            tracing::debug!(route, code = code.as_str(), request_id, client_id, "request refused");
        }
        span.end(response.status());
        histogram!(REQUEST_SECONDS, "route" => route).record(started.elapsed());
        counted(route, response)
    }

    /// Rejects what the head alone rules out before it reads the body.
    async fn take_in(
        &self,
        policy: Policy,
        request: Request,
        span: &RequestSpan,
    ) -> Result<Ingested, Refusal> {
        let received_at = Timestamp::now();
        if self.slots.available_permits() == 0 {
            return Err(self.unavailable());
        }
        let coding = acceptable(policy, request.headers())?;
        let expected = request.headers().contains_key(EXPECT);
        let body = self.bodies.read(request.into_body(), expected).await;
        let body = body.map_err(|failure| self.no_body(failure))?;
        let Ok(_slot) = self.slots.try_acquire() else { return Err(self.unavailable()) };
        let _in_flight = Counted::begin(REQUESTS_IN_FLIGHT);
        let taking_in = self.take_in_body(policy, body, coding, received_at, span);
        match tokio::time::timeout(self.answer_timeout, taking_in).await {
            Ok(result) => result,
            Err(_) => {
                not_acknowledged(span, "--answer-timeout ran out");
                Err(self.unavailable())
            }
        }
    }

    async fn take_in_body(
        &self,
        policy: Policy,
        body: Received,
        coding: Coding,
        received_at: Timestamp,
        span: &RequestSpan,
    ) -> Result<Ingested, Refusal> {
        let Received { bytes, mut held } = body;
        let opened;
        let content = match coding {
            Some(encoding) if !bytes.is_empty() => {
                let most = self.bodies.bytes_max;
                held.cover(bytes.len() + most).map_err(|_| self.unavailable())?;
                let open = || encoding.open(&bytes, most);
                let result = if bytes.len() > OFF_THREAD_BYTES {
                    tokio::task::block_in_place(open)
                } else {
                    open()
                };
                match result {
                    Ok(whole) => {
                        opened = whole;
                        held.shrink_to(bytes.len() + opened.len());
                        Content::Open(&opened)
                    }
                    Err(OpenError::TooLarge) => return Err(Code::PayloadTooLarge.into()),
                    Err(OpenError::Broken) => {
                        held.shrink_to(bytes.len());
                        Content::Broken { received: &bytes, encoding }
                    }
                }
            }
            _ => Content::Open(&bytes),
        };
        let taken = self.ingest.ingest(content, policy, received_at, span).await;
        taken.map_err(|reason| match reason {
            NotIngested::Empty => Code::EmptyBody.into(),
            NotIngested::Unavailable(error) => {
                not_acknowledged(span, &error.to_string());
                self.unavailable()
            }
        })
    }

    fn no_body(&self, failure: BodyFailure) -> Refusal {
        match failure {
            BodyFailure::TooLarge => Code::PayloadTooLarge.into(),
            BodyFailure::Stalled => Code::BodyTimeout.into(),
            BodyFailure::NoRoom => self.unavailable(),
        }
    }

    fn unavailable(&self) -> Refusal {
        let retry_after = self.ingest.records.publisher.retry_after(rand::random());
        histogram!(RETRY_AFTER).record(retry_after as f64);
        Refusal { code: Code::Unavailable, retry_after: Some(retry_after) }
    }
}

fn not_acknowledged(span: &RequestSpan, error: &str) {
    let (request_id, client_id) = (span.request_id(), span.client_id());
    tracing::debug!(error, request_id, client_id, "body not acknowledged");
}

fn acceptable(policy: Policy, headers: &HeaderMap) -> Result<Coding, Refusal> {
    if policy == Policy::Api && !headers::is_json(headers) {
        return Err(Code::UnsupportedMediaType.into());
    }
    headers::coding(headers).map_err(|_| Code::UnsupportedEncoding.into())
}

fn counted(route: &'static str, response: Response) -> Response {
    let status = response.status().as_str().to_owned();
    counter!(REQUESTS, "route" => route, "status" => status).increment(1);
    response
}

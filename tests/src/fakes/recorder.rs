//! A fake server that records its requests and answers all of them alike, such as a server behind a
//! reverse proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::fakes::http_server::Server;
use crate::fakes::lock;

/// The `Retry-After` of each 503, in seconds.
pub const RETRY_AFTER: &str = "7";

/// The path that is answered by readiness and not recorded.
const READY: &str = "/readyz";

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method and path, with the query: `POST /v1/readings`.
    pub line: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, unchanged.
    pub body: Bytes,
}

#[derive(Debug)]
struct Recorded {
    status: StatusCode,
    ready: bool,
    requests: Vec<Request>,
}

type Shared = Arc<Mutex<Recorded>>;

/// The running server. It stops when dropped.
#[derive(Debug)]
pub struct Recorder {
    server: Server,
    recorded: Shared,
}

impl Recorder {
    /// Starts a ready server that answers 200, on a free local port.
    pub async fn start() -> anyhow::Result<Self> {
        let recorded = Recorded { status: StatusCode::OK, ready: true, requests: Vec::new() };
        let recorded = Arc::new(Mutex::new(recorded));
        let router = Router::new().fallback(record).with_state(Arc::clone(&recorded));
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), router).await?;
        Ok(Self { server, recorded })
    }

    /// The server's address.
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Answers requests with this status from now on.
    pub fn answer(&self, status: StatusCode) {
        lock(&self.recorded).status = status;
    }

    /// Answers `/readyz` with 200 or 503 from now on.
    pub fn ready(&self, ready: bool) {
        lock(&self.recorded).ready = ready;
    }

    /// Returns the requests since the last call, oldest first.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.recorded).requests)
    }

    /// Ends every connection, and every new one at once.
    pub fn down(&self) {
        self.server.down();
    }
}

async fn record(
    State(recorded): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut recorded = lock(&recorded);
    if uri.path() == READY {
        let unready = (!recorded.ready).then_some(StatusCode::SERVICE_UNAVAILABLE);
        return unready.unwrap_or(StatusCode::OK).into_response();
    }
    recorded.requests.push(Request { line: format!("{method} {uri}"), headers, body });
    match recorded.status {
        StatusCode::SERVICE_UNAVAILABLE => {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", RETRY_AFTER)]).into_response()
        }
        status => status.into_response(),
    }
}

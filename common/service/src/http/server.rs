//! Serves HTTP/1 within bounds that no client can exceed: connections, head size, time.
//!
//! Leaves the routes to the caller.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::{Gauge, gauge};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::bounds::{ConnectionLimits, ConnectionMetrics, PortState};
use super::timed::{ConnectionClock, TimedStream};
use crate::heartbeat::Heartbeat;

/// Connections that wait in the kernel while the server accepts none.
const BACKLOG: u32 = 4096;

/// Largest request line and headers together, in bytes. hyper itself rejects more than 100 headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Longest time without an acknowledgement of sent bytes before the kernel closes a connection.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// TCP keep-alive of a silent connection: idle time, interval, number of probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 3);

/// Pause of accepting after a failed accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The two steps of a stop.
#[derive(Debug, Clone)]
pub struct ServerStop {
    /// Once cancelled, every answer asks the client to close the connection.
    pub leaving: CancellationToken,
    /// Once cancelled, nothing is accepted, and only requests that have begun are completed.
    pub closing: CancellationToken,
}

/// A bound port, ready to be served.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    shared: Arc<PortState>,
    heartbeat: Option<Heartbeat>,
}

impl HttpServer {
    /// Binds the port.
    pub fn bind(
        address: SocketAddr,
        bounds: ConnectionLimits,
        names: Option<ConnectionMetrics>,
    ) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let states = ["head", "request", "idle"].map(|state| {
            names.map_or_else(Gauge::noop, |names| gauge!(names.connections, "state" => state))
        });
        let shared = PortState {
            bounds,
            permits: Arc::new(Semaphore::new(bounds.connections_max)),
            states,
            refused: names.map(|names| names.refused),
        };
        Ok(Self { listener, shared: Arc::new(shared), heartbeat: None })
    }

    /// Lets the accept loop keep this heartbeat going.
    #[must_use]
    pub fn with_heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// Returns the bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop.closing` is cancelled and the last request has its answer. Handlers can
    /// extract `ConnectInfo<SocketAddr>`.
    pub async fn serve(self, router: Router, stop: ServerStop) {
        let connections = TaskTracker::new();
        let router = TowerToHyperService::new(router);
        loop {
            let (stream, peer, permit) = tokio::select! {
                () = stop.closing.cancelled() => break,
                accepted = beating(self.heartbeat.as_ref(), self.accept()) => accepted,
            };
            let (shared, router, stop) = (Arc::clone(&self.shared), router.clone(), stop.clone());
            connections.spawn(async move {
                connection(stream, peer, &shared, router, &stop).await;
                drop(permit);
            });
        }
        drop(self.listener);
        connections.close();
        beating(self.heartbeat.as_ref(), connections.wait()).await;
    }

    /// Waits for a permit before it accepts: excess connections stay in the kernel and cost nothing
    /// here.
    async fn accept(&self) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                // The client has closed the connection already.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, "cannot accept connections, check the limit of open files");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn beating<T>(heartbeat: Option<&Heartbeat>, wait: impl Future<Output = T>) -> T {
    match heartbeat {
        Some(heartbeat) => heartbeat.during(wait).await,
        None => wait.await,
    }
}

async fn connection<S>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<PortState>,
    router: S,
    stop: &ServerStop,
) where
    S: Service<Request<Incoming>, Response = axum::response::Response, Error = Infallible>,
{
    if let Err(error) = set_options(&stream) {
        debug!(%error, "connection closed before it was served");
        return;
    }
    let clock = Arc::new(ConnectionClock::new(Arc::clone(shared)));
    let io = TokioIo::new(TimedStream::new(stream, Arc::clone(&clock)));
    let service = service_fn(|mut request: Request<Incoming>| {
        clock.head_ended();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answering = router.call(request);
        let clock = &clock;
        async move {
            let mut answer = answering.await?;
            if stop.leaving.is_cancelled() || shared.is_crowded() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            clock.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    // hyper has one clock for heads and idle connections, so the shorter clocks in `timed` expire
    // first. hyper's clock is set nevertheless: without it hyper stops reading after an answer, and
    // nothing would poll the clock of an idle connection. `max_header_size` limits complete heads,
    // `max_buf_size` incomplete ones.
    let ConnectionLimits { header_timeout, idle_timeout, .. } = shared.bounds;
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout + header_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut serving = std::pin::pin!(builder.serve_connection(io, service));
    let served = tokio::select! {
        served = &mut serving => served,
        () = stop.closing.cancelled() => {
            clock.close();
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        if error.is_parse_too_large() {
            shared.refused("head_too_large").increment(1);
        } else if error.is_parse() {
            shared.refused("no_http").increment(1);
        }
        debug!(%error, "connection ended early");
    }
}

fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    let (after, every, times) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(after).with_interval(every).with_retries(times);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_nodelay(true)
}

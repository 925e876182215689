//! Serves HTTP/1 within bounds that no peer can stretch: connections, head size, time.
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

use super::bounds::{Bounds, Names, Shared};
use super::timed::{Clock, Timed};

/// Connections that the kernel keeps while none can be taken.
const BACKLOG: u32 = 4096;

/// Request line and headers together, in bytes; hyper refuses more than 100 headers by itself.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Until a connection is given up whose peer acknowledges nothing of what was sent.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A silent peer is asked after so long, so often, so many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 3);

/// How long no connection is taken after the system refused one for want of room.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How to stop.
#[derive(Debug, Clone)]
pub struct Stop {
    /// From here on answers ask for their connection to be closed.
    pub leaving: CancellationToken,
    /// From here on nothing is accepted, and only requests that have begun go on.
    pub closing: CancellationToken,
}

/// A port about to be served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Server {
    /// Binds the port.
    pub fn bind(
        address: SocketAddr,
        bounds: Bounds,
        names: Option<Names>,
    ) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let states = ["head", "request", "idle"].map(|state| {
            names.map_or_else(Gauge::noop, |names| gauge!(names.connections, "state" => state))
        });
        let shared = Shared {
            bounds,
            permits: Arc::new(Semaphore::new(bounds.connections_max)),
            states,
            refused: names.map(|names| names.refused),
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop and the last request has its answer. Handlers can ask for
    /// `ConnectInfo<SocketAddr>`.
    pub async fn serve(self, router: Router, stop: Stop) {
        let connections = TaskTracker::new();
        let router = TowerToHyperService::new(router);
        loop {
            let (stream, peer, permit) = tokio::select! {
                () = stop.closing.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            let (shared, router, stop) = (Arc::clone(&self.shared), router.clone(), stop.clone());
            connections.spawn(async move {
                connection(stream, peer, &shared, router, &stop).await;
                drop(permit);
            });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }

    /// The permit comes first: what there is no room for waits in the kernel and costs nothing here.
    async fn accept(&self) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                // The peer's, which has left again.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, "no connection can be taken; look at the limit of open files");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection<S>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    router: S,
    stop: &Stop,
) where
    S: Service<Request<Incoming>, Response = axum::response::Response, Error = Infallible>,
{
    if let Err(error) = set_options(&stream) {
        debug!(%error, "a connection was gone before it began");
        return;
    }
    let clock = Arc::new(Clock::new(Arc::clone(shared)));
    let io = TokioIo::new(Timed::new(stream, Arc::clone(&clock)));
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
    // Hyper's own clock is one for heads and idle connections alike, so those in `timed` strike first. It
    // is set all the same: without it hyper reads no further once an answer is sent, and an idle
    // connection's clock would never be looked at. The limit of heads holds for complete ones, that of
    // the buffer ends the others.
    let Bounds { header_timeout, idle_timeout, .. } = shared.bounds;
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
        debug!(%error, "a connection ended early");
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

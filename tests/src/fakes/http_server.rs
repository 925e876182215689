//! A fake HTTP server that can stop and start without losing its port, and cut a single connection.
//! The answers belong to its router.

use std::io::{Error, ErrorKind, Result as IoResult};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};

use anyhow::Context;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A running server. When dropped, it stops and its connections end.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    door: Arc<Door>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Serves `router` on `address`; port 0 takes a free port. The handlers can extract
    /// `ConnectInfo<Connection>`.
    pub async fn start(address: SocketAddr, router: Router) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
        let address = listener.local_addr()?;
        let door = Arc::new(Door::default());
        let entrance = Entrance { listener, door: Arc::clone(&door) };
        let service = router.into_make_service_with_connect_info::<Connection>();
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(entrance, service).await {
                eprintln!("the stand-in server on {address} stopped: {error}");
            }
        });
        Ok(Self { address, door, serving })
    }

    /// The server's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends every connection, and every new one at once, until [`Self::up`]. The port stays taken,
    /// so that no other server of a test run gets it.
    pub fn down(&self) {
        self.door.close();
    }

    /// Serves again.
    pub fn up(&self) {
        self.door.open();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
        self.door.close();
    }
}

/// A connection as a handler sees it.
#[derive(Debug, Clone)]
pub struct Connection {
    cut: CancellationToken,
}

impl Connection {
    /// Cuts the connection: no answer of the handler reaches the caller.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

impl Connected<IncomingStream<'_, Entrance>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Entrance>) -> Self {
        Self { cut: stream.io().cut.clone() }
    }
}

/// An open door holds the token that ends the present connections. A closed door holds none.
#[derive(Debug)]
struct Door(Mutex<Option<CancellationToken>>);

impl Default for Door {
    fn default() -> Self {
        Self(Mutex::new(Some(CancellationToken::new())))
    }
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Option<CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        if let Some(connections) = self.lock().take() {
            connections.cancel();
        }
    }

    fn open(&self) {
        self.lock().get_or_insert_with(CancellationToken::new);
    }

    fn enter(&self) -> Option<CancellationToken> {
        self.lock().as_ref().map(CancellationToken::child_token)
    }
}

/// A listener behind a door.
struct Entrance {
    listener: TcpListener,
    door: Arc<Door>,
}

impl Listener for Entrance {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            let (stream, caller) = Listener::accept(&mut self.listener).await;
            // If the door is closed, the stream is dropped: the caller sees its connection end.
            if let Some(cut) = self.door.enter() {
                let cutting = Box::pin(cut.clone().cancelled_owned());
                return (Line { stream, cut, cutting }, caller);
            }
        }
    }

    fn local_addr(&self) -> IoResult<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream that fails once it is cut. The cut wakes a read, so an idle connection ends, too.
struct Line {
    stream: TcpStream,
    cut: CancellationToken,
    cutting: Pin<Box<WaitForCancellationFutureOwned>>,
}

fn cut() -> Error {
    Error::from(ErrorKind::ConnectionAborted)
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<IoResult<()>> {
        if self.cutting.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<IoResult<usize>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<IoResult<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use tokio::sync::Notify;

    use super::*;
    use crate::clients::http;

    /// Starts a server. The notification fires for each call that hangs.
    async fn server() -> (Server, Arc<Notify>) {
        let hanging = Arc::new(Notify::new());
        let called = Arc::clone(&hanging);
        let hang = || async move {
            called.notify_one();
            std::future::pending::<&'static str>().await
        };
        let cut = |ConnectInfo(connection): ConnectInfo<Connection>| async move {
            connection.cut();
            "never read"
        };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/cut", get(cut))
            .route("/hang", get(hang));
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), router).await;
        (server.unwrap(), hanging)
    }

    #[tokio::test]
    async fn a_server_that_was_down_is_up_again_under_the_same_address() {
        let (server, _) = server().await;
        let url = server.url();
        assert_eq!(http::get(&url).await.unwrap().text, "here");
        server.down();
        assert!(http::get(&url).await.is_err());
        server.up();
        assert_eq!(http::get(&url).await.unwrap().text, "here");
        drop(server);
        assert!(http::get(&url).await.is_err());
    }

    #[tokio::test]
    async fn going_down_ends_the_calls_that_are_under_way() {
        let (server, hanging) = server().await;
        let url = format!("{}/hang", server.url());
        let calling = tokio::spawn(async move { http::get(&url).await });
        hanging.notified().await;
        server.down();
        let error = calling.await.unwrap().unwrap_err();
        let timeout = error.downcast_ref::<reqwest::Error>().map(reqwest::Error::is_timeout);
        assert_eq!(timeout, Some(false), "{error:?}");
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_answers_nothing_and_others_go_on() {
        let (server, _) = server().await;
        assert!(http::get(&format!("{}/cut", server.url())).await.is_err());
        assert_eq!(http::get(&server.url()).await.unwrap().text, "here");
    }
}

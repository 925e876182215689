//! Wraps a connection's stream with clocks: one for heads, one between requests, one for writing.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::bounds::PortState;

/// Longest time in which a client accepts no byte of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The state of a connection, named for what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionPhase {
    /// Waits for the end of a head.
    Head,
    /// Waits for an answer, which has clocks of its own.
    Request,
    /// Waits for the next head.
    Idle,
}

#[derive(Debug)]
struct ClockState {
    phase: ConnectionPhase,
    since: Instant,
    closing: bool,
}

/// Tracks the state of a connection and the deadline of that state.
#[derive(Debug)]
pub(super) struct ConnectionClock {
    shared: Arc<PortState>,
    state: Mutex<ClockState>,
}

impl ConnectionClock {
    /// Creates the clock of a new connection. The time of the first head starts at once.
    pub(super) fn new(shared: Arc<PortState>) -> Self {
        shared.states[ConnectionPhase::Head as usize].increment(1.0);
        let state =
            ClockState { phase: ConnectionPhase::Head, since: Instant::now(), closing: false };
        Self { shared, state: Mutex::new(state) }
    }

    /// Records that a head is complete.
    pub(super) fn head_ended(&self) {
        self.change(&mut self.state(), ConnectionPhase::Request);
    }

    /// Records that the answer is ready and only has to be sent.
    pub(super) fn answered(&self) {
        self.change(&mut self.state(), ConnectionPhase::Idle);
    }

    /// Stops the reading of further heads.
    pub(super) fn close(&self) {
        self.state().closing = true;
    }

    /// Records received bytes. After an answer they begin a head; further bytes of a head do not
    /// restart its clock.
    fn received(&self) {
        let mut state = self.state();
        if state.phase == ConnectionPhase::Idle {
            self.change(&mut state, ConnectionPhase::Head);
        }
    }

    /// Records sent bytes. The idle time of a connection starts with the last byte of its answer.
    fn sent(&self) {
        let mut state = self.state();
        if state.phase == ConnectionPhase::Idle {
            state.since = Instant::now();
        }
    }

    fn is_closed(&self) -> bool {
        let state = self.state();
        state.closing && state.phase != ConnectionPhase::Request
    }

    /// Returns the deadline of the next read.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        match state.phase {
            ConnectionPhase::Head => Some(state.since + self.shared.bounds.header_timeout),
            ConnectionPhase::Request => None,
            ConnectionPhase::Idle => Some(state.since + self.shared.bounds.idle_timeout),
        }
    }

    fn read_too_late(&self) -> Error {
        if self.state().phase == ConnectionPhase::Head {
            self.shared.refused("header_timeout").increment(1);
        }
        Error::new(ErrorKind::TimedOut, "nothing came in time")
    }

    fn change(&self, state: &mut ClockState, phase: ConnectionPhase) {
        self.shared.states[state.phase as usize].decrement(1.0);
        self.shared.states[phase as usize].increment(1.0);
        (state.phase, state.since) = (phase, Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, ClockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionClock {
    fn drop(&mut self) {
        self.shared.states[self.state().phase as usize].decrement(1.0);
    }
}

/// A stream with the clocks of its connection.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    clock: Arc<ConnectionClock>,
    reading: Pin<Box<Sleep>>,
    /// The clock of a write, set while the client accepts nothing.
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, clock: Arc<ConnectionClock>) -> Self {
        let reading = Box::pin(tokio::time::sleep(clock.shared.bounds.header_timeout));
        Self { stream, clock, reading, writing: None }
    }

    /// Passes on the result of a write, or fails if the client has accepted nothing for too long.
    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<T>) -> Poll<Result<T>> {
        if let Poll::Ready(written) = written {
            self.writing = None;
            self.clock.sent();
            return Poll::Ready(Ok(written));
        }
        let waiting =
            self.writing.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        ready!(waiting.as_mut().poll(context));
        self.clock.shared.refused("write_timeout").increment(1);
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.clock.is_closed() {
            // End of file, as if the client had closed the connection.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            if buffer.filled().len() > before {
                this.clock.received();
            }
            return Poll::Ready(read);
        }
        let Some(deadline) = this.clock.deadline() else { return Poll::Pending };
        if this.reading.deadline() != deadline {
            this.reading.as_mut().reset(deadline);
        }
        ready!(this.reading.as_mut().poll(context));
        Poll::Ready(Err(this.clock.read_too_late()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written).map(Result::flatten)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written).map(Result::flatten)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

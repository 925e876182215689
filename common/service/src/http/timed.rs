//! Wraps a connection's stream with clocks: one for heads, one between requests, one for writing.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::bounds::PortState;

/// Longest time in which a client accepts no byte of an answer, or a small answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes a second of an answer that a client must accept after that time. An answer may hold memory
/// that others wait for.
const WRITE_RATE_MIN: usize = 8 * 1024;

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
    /// When the last answer was ready.
    answered: Instant,
    /// The bytes of it that the client has accepted.
    sent: usize,
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
        let (phase, since) = (ConnectionPhase::Head, Instant::now());
        let state = ClockState { phase, since, closing: false, answered: since, sent: 0 };
        Self { shared, state: Mutex::new(state) }
    }

    /// Records that a head is complete.
    pub(super) fn head_ended(&self) {
        self.change(&mut self.state(), ConnectionPhase::Request);
    }

    /// Records that the answer is ready and only has to be sent.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        (state.answered, state.sent) = (Instant::now(), 0);
        self.change(&mut state, ConnectionPhase::Idle);
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
    fn sent(&self, bytes: usize) {
        let mut state = self.state();
        state.sent += bytes;
        if state.phase == ConnectionPhase::Idle {
            state.since = Instant::now();
        }
    }

    fn is_closed(&self) -> bool {
        let state = self.state();
        state.closing && state.phase != ConnectionPhase::Request
    }

    /// Returns the deadline of the next write.
    fn write_deadline(&self) -> Instant {
        let state = self.state();
        write_deadline(state.answered, state.sent, Instant::now())
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

/// Returns until when a client must accept more of an answer of which it has accepted `sent` bytes.
fn write_deadline(answered: Instant, sent: usize, now: Instant) -> Instant {
    let earned = Duration::from_secs((sent / WRITE_RATE_MIN) as u64);
    (answered + earned).min(now) + WRITE_TIMEOUT
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

    /// Passes on the result of a write, or fails if the client accepts the answer too slowly.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<Result<usize>>,
    ) -> Poll<Result<usize>> {
        if let Poll::Ready(written) = written {
            self.writing = None;
            self.clock.sent(written.as_ref().copied().unwrap_or_default());
            return Poll::Ready(written);
        }
        let clock = &self.clock;
        let waiting =
            self.writing.get_or_insert_with(|| Box::pin(sleep_until(clock.write_deadline())));
        ready!(waiting.as_mut().poll(context));
        self.clock.shared.refused("write_timeout").increment(1);
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the peer takes too little")))
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
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_must_keep_accepting_an_answer_and_at_a_least_rate() {
        let answered = Instant::now();
        let at = |second: u64| answered + Duration::from_secs(second);
        // Bytes accepted so far, the present second, and the second of the deadline.
        for (sent, now, expected) in [
            (0, 0, 10),
            (1, 9, 10),
            (80 * 1024, 5, 15),
            (80 * 1024, 19, 20),
            (1024 * 1024, 100, 110),
        ] {
            assert_eq!(write_deadline(answered, sent, at(now)), at(expected), "{sent} at {now} s");
        }
    }
}

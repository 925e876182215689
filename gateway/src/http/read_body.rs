//! Reading a request's body within its bounds.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::{Bytes, BytesMut};
use metrics::histogram;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::StreamExt;

use crate::admission::byte_budget::{Budget, Held, NoRoom};
use crate::admission::limits::ProtectionArgs;
use crate::admission::pace::Pace;
use crate::metrics::BODY_SECONDS;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFailure {
    /// It is larger than a body may be.
    TooLarge,
    /// It did not arrive in time, or the connection broke.
    Stalled,
    /// Too many bodies are being held already.
    NoRoom,
}

impl From<NoRoom> for BodyFailure {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// How much of an oversized body is read and thrown away, so that its sender sees the answer
/// instead of a reset connection.
const DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A sender that is silent for so long sends no more of it.
const DRAIN_GAP: Duration = Duration::from_secs(1);

/// Bounds of bodies.
#[derive(Debug, Clone)]
pub struct Bodies {
    pub bytes_max: usize,
    pub pace: Pace,
    pub budget: Budget,
}

/// A body, and its part of the budget.
#[derive(Debug)]
pub struct Received {
    pub bytes: Bytes,
    pub held: Held,
}

impl Bodies {
    /// The bounds that the settings name, with a budget of their own.
    pub fn new(protection: &ProtectionArgs) -> Self {
        Self {
            bytes_max: protection.body_bytes_max,
            pace: protection.pace(),
            budget: protection.budget(),
        }
    }

    /// Reads a body whose head has just ended. `expected`: the sender waits to be asked for it.
    ///
    /// What its length alone shows to be oversized is then not on its way; one without a length is, since
    /// to read it is to ask for it.
    pub async fn read(&self, body: Body, expected: bool) -> Result<Received, BodyFailure> {
        let started = Instant::now();
        let length = body.size_hint().exact().map(usize::try_from);
        let unasked = expected && length.is_some();
        let mut stream = body.into_data_stream();
        let result = match length {
            Some(length) if length.is_ok_and(|length| length <= self.bytes_max) => {
                self.collect(&mut stream, length.unwrap_or_default(), started).await
            }
            Some(_) => Err(BodyFailure::TooLarge),
            None => self.collect(&mut stream, 0, started).await,
        };
        match result {
            Ok(_) => histogram!(BODY_SECONDS).record(started.elapsed()),
            Err(BodyFailure::TooLarge) if !unasked => {
                // Whether all of it could be drained changes nothing about the answer.
                let _ = timeout(DRAIN_TIMEOUT, drain(&mut stream)).await;
            }
            Err(_) => {}
        }
        result
    }

    async fn collect(
        &self,
        stream: &mut BodyDataStream,
        length: usize,
        started: Instant,
    ) -> Result<Received, BodyFailure> {
        let mut held = self.budget.hold();
        let (mut first, mut whole) = (None, BytesMut::new());
        let (mut received, mut last) = (0, Duration::ZERO);
        loop {
            let deadline = started + self.pace.deadline(received, last);
            let next = timeout_at(deadline, stream.next()).await;
            let Some(chunk) = next.map_err(|_| BodyFailure::Stalled)? else {
                // Nearly every body is one chunk, which needs no copy.
                return Ok(Received { bytes: first.unwrap_or_else(|| whole.freeze()), held });
            };
            let chunk = chunk.map_err(|_| BodyFailure::Stalled)?;
            (received, last) = (received + chunk.len(), started.elapsed());
            if received > self.bytes_max {
                return Err(BodyFailure::TooLarge);
            }
            held.cover(received)?;
            if received == chunk.len() {
                first = Some(chunk);
                continue;
            }
            if let Some(first) = first.take() {
                whole.reserve(length.max(received));
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&chunk);
        }
    }
}

async fn drain(stream: &mut BodyDataStream) {
    let mut drained = 0;
    while drained < DRAIN_BYTES_MAX {
        match timeout(DRAIN_GAP, stream.next()).await {
            Ok(Some(Ok(chunk))) => drained += chunk.len(),
            _ => return,
        }
    }
}

//! Reads a request's body within its bounds.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter::successors;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::{Bytes, BytesMut};
use metrics::histogram;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::StreamExt;

use crate::admission::byte_budget::{BodyBudget, BodyReservation, NoRoom};
use crate::admission::limits::ProtectionArgs;
use crate::admission::pace::Pace;
use crate::metrics::BODY_SECONDS;

/// The reason why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyReadError {
    /// The body is larger than allowed.
    TooLarge,
    /// The body did not arrive in time, or the connection broke.
    Stalled,
    /// The body's chunks are not HTTP.
    Malformed,
    /// The budget of all bodies has no room.
    NoRoom,
}

impl From<NoRoom> for BodyReadError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

impl From<axum::Error> for BodyReadError {
    fn from(error: axum::Error) -> Self {
        let error: &(dyn Error + 'static) = &error;
        let mut causes = successors(Some(error), |&error| error.source());
        let cause = causes.find_map(|error| error.downcast_ref::<io::Error>());
        match cause.map(io::Error::kind) {
            Some(ErrorKind::InvalidInput | ErrorKind::InvalidData) => Self::Malformed,
            _ => Self::Stalled,
        }
    }
}

/// How much of an oversized body is read and discarded, so that the client sees the answer instead
/// of a reset connection.
const DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest time for this discarding.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Silence after which a client is taken to send no more of the body.
const DRAIN_GAP: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct BodyReader {
    pub bytes_max: usize,
    pub pace: Pace,
    pub budget: BodyBudget,
}

/// A body and its part of the budget.
#[derive(Debug)]
pub struct ReceivedBody {
    pub bytes: Bytes,
    pub held: BodyReservation,
}

impl BodyReader {
    /// Takes the bounds from the settings, and creates the budget.
    pub fn new(protection: &ProtectionArgs) -> Self {
        Self {
            bytes_max: protection.body_bytes_max,
            pace: protection.pace(),
            budget: protection.budget(),
        }
    }

    /// Reads a body whose head has just ended. `expected` means that the client waits for `100
    /// Continue` before it sends the body.
    ///
    /// If the length of an expected body is too large, the body is never sent, so nothing is
    /// discarded. Without a length the read itself asks for the body.
    pub async fn read(&self, body: Body, expected: bool) -> Result<ReceivedBody, BodyReadError> {
        let started = Instant::now();
        let length = body.size_hint().exact().map(usize::try_from);
        let unasked = expected && length.is_some();
        let mut stream = body.into_data_stream();
        let result = match length {
            Some(length) if length.is_ok_and(|length| length <= self.bytes_max) => {
                self.collect(&mut stream, length.unwrap_or_default(), started).await
            }
            Some(_) => Err(BodyReadError::TooLarge),
            None => self.collect(&mut stream, 0, started).await,
        };
        match result {
            Ok(_) => histogram!(BODY_SECONDS).record(started.elapsed()),
            Err(BodyReadError::TooLarge) if !unasked => {
                // The answer is the same, whether the discarding is complete or not.
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
    ) -> Result<ReceivedBody, BodyReadError> {
        let mut held = self.budget.hold();
        let (mut first, mut whole) = (None, BytesMut::new());
        let (mut received, mut last) = (0, Duration::ZERO);
        loop {
            let deadline = started + self.pace.deadline(received, last);
            let next = timeout_at(deadline, stream.next()).await;
            let Some(chunk) = next.map_err(|_| BodyReadError::Stalled)? else {
                // Nearly every body is one chunk and needs no copy.
                return Ok(ReceivedBody { bytes: first.unwrap_or_else(|| whole.freeze()), held });
            };
            let chunk = chunk?;
            (received, last) = (received + chunk.len(), started.elapsed());
            if received > self.bytes_max {
                return Err(BodyReadError::TooLarge);
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

//! Reading a request's body within its bounds.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use tokio::time::timeout;
use tokio_stream::StreamExt;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFailure {
    /// It is larger than a body may be.
    TooLarge,
    /// It did not arrive in time, or the connection broke.
    Stalled,
}

/// How much of an oversized body is read and thrown away, so that its sender sees the answer
/// instead of a reset connection.
const DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a body of at most `bytes_max` within `deadline`.
pub async fn read(body: Body, bytes_max: usize, deadline: Duration) -> Result<Bytes, BodyFailure> {
    let mut stream = body.into_data_stream();
    match timeout(deadline, collect(&mut stream, bytes_max)).await {
        Ok(Err(BodyFailure::TooLarge)) => {
            // Whether all of it could be drained changes nothing about the answer.
            let _ = timeout(DRAIN_TIMEOUT, drain(&mut stream)).await;
            Err(BodyFailure::TooLarge)
        }
        Ok(result) => result,
        Err(_) => Err(BodyFailure::Stalled),
    }
}

async fn collect(stream: &mut BodyDataStream, bytes_max: usize) -> Result<Bytes, BodyFailure> {
    let Some(first) = stream.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(|_| BodyFailure::Stalled)?;
    if first.len() > bytes_max {
        return Err(BodyFailure::TooLarge);
    }
    // Nearly every body is one chunk, which needs no copy.
    let Some(second) = stream.next().await else { return Ok(first) };
    let mut whole = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        let chunk = chunk.map_err(|_| BodyFailure::Stalled)?;
        if whole.len() + chunk.len() > bytes_max {
            return Err(BodyFailure::TooLarge);
        }
        whole.extend_from_slice(&chunk);
        next = stream.next().await;
    }
    Ok(whole.freeze())
}

async fn drain(stream: &mut BodyDataStream) {
    let mut drained = 0;
    while drained < DRAIN_BYTES_MAX {
        match stream.next().await {
            Some(Ok(chunk)) => drained += chunk.len(),
            _ => return,
        }
    }
}

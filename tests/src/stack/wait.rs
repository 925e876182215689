//! Waiting on a condition with a deadline. Nothing else in this crate sleeps to let things settle.

use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls `probe` until it answers `Some`; an error counts as "not yet" and is told if time runs out.
pub async fn eventually<T, Answer>(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> Answer,
) -> anyhow::Result<T>
where
    Answer: Future<Output = anyhow::Result<Option<T>>>,
{
    let end = Instant::now() + deadline;
    let mut last = "it did not answer".to_owned();
    while Instant::now() < end {
        // The probe itself may hang where a server is down, so the deadline holds for it too.
        match tokio::time::timeout_at(end, probe()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => "it answered no".clone_into(&mut last),
            Ok(Err(error)) => last = format!("{error:#}"),
            // The answer before says more than that time ran out on this one.
            Err(_) => break,
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    bail!("not within {deadline:?}: {what} (last: {last})")
}

/// Lets time pass where time itself is what a test is about, such as a server being away for a while.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

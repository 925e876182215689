//! Waits on a condition with a deadline. No other code in this crate sleeps to let things settle.

use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// The time between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls `probe` until it returns `Some`. An error counts as "not yet" and is reported if time runs
/// out.
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
        // The probe itself may hang if a server is down, so the deadline holds for the probe, too.
        match tokio::time::timeout_at(end, probe()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => "it answered no".clone_into(&mut last),
            Ok(Err(error)) => last = format!("{error:#}"),
            // Keep the answer before: it is more useful than a timeout.
            Err(_) => break,
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    bail!("not within {deadline:?}: {what} (last: {last})")
}

/// Lets time pass if time itself is the subject of a test, such as the length of an outage.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

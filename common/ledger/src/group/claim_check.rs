//! Finds claims that the ledger no longer has, also in partitions for which nothing is written.
//!
//! A write finds the loss of its claim by itself. An idle partition has no write: after a rewind by
//! an operator it would wait for its next reading.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::claims::ClaimTable;

/// Interval of the checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Longest wait for the answer of MySQL. Without an answer the next check follows.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Checks all claims of this process until `stop`. A lost one is claimed again.
pub(super) async fn check_claims(claims: Arc<ClaimTable>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        // Known before the query: the answer then cannot be older than these claims.
        let held = claims.positions();
        let answer = timeout(ANSWER_TIMEOUT, claims.ledger().epochs()).await;
        let Ok(Ok(epochs)) = answer else { continue };
        for (partition, epoch, _) in held {
            let gone = epochs.get(&partition) != Some(&epoch);
            if gone && claims.unclaim(partition, epoch) {
                warn!(partition, epoch, "claim is gone from the ledger, claiming it again");
            }
        }
    }
}

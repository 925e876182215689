//! Waits between attempts to write a batch. Logs the start and the end of the wait, and reports the
//! batch to the health state.

use std::time::Duration;

use ljwx_ledger::mysql::errors::Remedy;
use ljwx_service::backoff::Backoff;
use ljwx_service::telemetry::trace;
use opentelemetry::Context;
use tracing::{error, warn};

use crate::dead_letter::UNCONFIRMED;
use crate::health::Health;

/// First wait after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest wait between attempts, and so until a recovered MySQL is noticed.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A batch that is held: MySQL or the dead-letter topic does not take it, or the breaker is open. The
/// log has one line for each new reason of the wait and one line at its end. The drop ends the hold.
pub(super) struct HeldBatch {
    batch_id: String,
    /// Id of the batch's trace, if the trace is recorded.
    trace_id: Option<String>,
    backoff: Backoff,
    logged: Option<&'static str>,
    health: Health,
}

impl HeldBatch {
    pub(super) fn new(batch_id: &str, span: &Context, health: Health) -> Self {
        Self {
            batch_id: batch_id.to_owned(),
            trace_id: trace::id(span),
            backoff: Backoff::new(RETRY_FIRST, RETRY_MAX),
            logged: None,
            health,
        }
    }

    /// Returns the number of waits so far.
    pub(super) fn attempts(&self) -> u32 {
        self.backoff.attempts()
    }

    /// Waits before the next attempt. `partitions` are those that wait with the batch.
    pub(super) async fn wait(&mut self, partitions: Vec<i32>, reason: &'static str, message: &str) {
        self.health.held(&self.batch_id, partitions, message);
        if self.logged != Some(reason) {
            self.logged = Some(reason);
            let trace_id = self.trace_id.as_deref();
            if reason == Remedy::Schema.as_str() {
                error!(
                    batch.id = self.batch_id,
                    trace_id,
                    error = message,
                    "cannot write batch, its SQL does not fit the tables or the server; run `worker migrate`"
                );
            } else if reason == UNCONFIRMED {
                warn!(
                    batch.id = self.batch_id,
                    trace_id,
                    error = message,
                    "cannot publish dead letter, its batch is held, retrying"
                );
            } else {
                warn!(
                    batch.id = self.batch_id,
                    trace_id,
                    reason,
                    error = message,
                    "cannot write batch, retrying"
                );
            }
        }
        tokio::time::sleep(self.backoff.next(rand::random())).await;
    }

    pub(super) fn over(&self) {
        if self.logged.is_some() {
            warn!(
                batch.id = self.batch_id,
                trace_id = self.trace_id.as_deref(),
                attempts = self.backoff.attempts(),
                "held batch written"
            );
        }
    }
}

impl Drop for HeldBatch {
    fn drop(&mut self) {
        if self.logged.is_some() {
            self.health.released(&self.batch_id);
        }
    }
}

//! Waits between attempts to write a batch, and logs the start and the end of the wait.

use std::time::Duration;

use ljwx_ledger::mysql::errors::Remedy;
use ljwx_service::backoff::Backoff;
use ljwx_service::telemetry::trace;
use opentelemetry::Context;
use tracing::{error, warn};

/// First wait after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest wait between attempts, and so until a recovered MySQL is noticed.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A batch that MySQL does not take. The log has one line for each new reason of the wait and one
/// line at its end.
pub(super) struct HeldBatch {
    batch_id: String,
    /// Id of the batch's trace, if the trace is recorded.
    trace_id: Option<String>,
    backoff: Backoff,
    logged: Option<&'static str>,
}

impl HeldBatch {
    pub(super) fn new(batch_id: &str, span: &Context) -> Self {
        let backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        Self { batch_id: batch_id.to_owned(), trace_id: trace::id(span), backoff, logged: None }
    }

    pub(super) async fn wait(&mut self, reason: &'static str, message: &str) {
        if self.logged != Some(reason) {
            self.logged = Some(reason);
            let trace_id = self.trace_id.as_deref();
            if reason == Remedy::Schema.as_str() {
                error!(
                    batch.id = self.batch_id,
                    trace_id,
                    error = message,
                    "cannot write batch, the tables are incomplete; run `worker migrate`"
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

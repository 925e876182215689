//! The part of a fleet that all devices share: connections, clock, stop signal and report. Each
//! device's own state belongs to [`super::device`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Pool;
use super::report::Report;

/// The state that all devices share.
pub(super) struct Shared {
    pub(super) pool: Pool,
    pub(super) begin: Instant,
    pub(super) begin_epoch: Duration,
    pub(super) end: Instant,
    pub(super) stop: CancellationToken,
    pub(super) report: Mutex<Report>,
}

impl Shared {
    pub(super) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the epoch second of a planned time.
    pub(super) fn epoch(&self, due: Instant) -> i64 {
        let epoch = self.begin_epoch + due.duration_since(self.begin);
        i64::try_from(epoch.as_secs()).unwrap_or(i64::MAX)
    }

    /// Waits until `due`; `false` if the fleet was stopped first.
    pub(super) async fn wait_until(&self, due: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep_until(due) => true,
        }
    }
}

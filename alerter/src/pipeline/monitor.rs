//! Looks at the servers every few seconds, for the metrics.

use ljwx_ledger::group::monitor::{GroupWatch, INTERVAL};
use tokio_util::sync::CancellationToken;

use crate::mysql::retry::Hold;

/// What is looked at.
pub struct Watch {
    /// The group.
    pub group_watch: GroupWatch,
    /// Whether MySQL takes what is written.
    pub hold: Hold,
}

impl Watch {
    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            self.group_watch.look(!self.hold.is_holding()).await;
        }
    }
}

//! Looks at the servers every few seconds, for the metrics.

use common::bindings::Bindings;
use common::group_watch::{GroupWatch, INTERVAL};
use fred::clients::Client;
use fred::interfaces::ClientLike;
use tokio_util::sync::CancellationToken;

use crate::hold::Hold;

/// What is looked at.
pub struct Watch {
    /// The group.
    pub group_watch: GroupWatch,
    /// The connection to Redis, where there is one.
    pub redis: Option<Client>,
    /// Whose devices are whose.
    pub bindings: Bindings,
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
            let redis = self.redis.as_ref().is_none_or(ClientLike::is_connected);
            self.group_watch.look(redis, !self.hold.is_holding()).await;
            self.bindings.show();
        }
    }
}

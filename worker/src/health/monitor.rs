//! Polls the servers every few seconds, for the health endpoint, the probes and the metrics.

use jiff::Timestamp;
use ljwx_ledger::group::monitor::{ANSWER_TIMEOUT, GroupMonitor, INTERVAL};
use ljwx_ledger::metrics::PAUSED;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::metrics::flag;
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::mysql::group_control::{self, ConsumptionState};

/// The monitor of the servers.
pub struct ServerMonitor {
    pub group_watch: GroupMonitor,
    pub pool: MySqlPool,
    pub group: String,
    pub topic: String,
    pub health: Health,
    pub consumption_state: watch::Sender<ConsumptionState>,
}

impl ServerMonitor {
    /// Polls the servers until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            let (free, redis) = (self.health.is_free(), self.health.redis().are_accepted());
            let observation = self.group_watch.observe(free, redis).await;
            self.health.observed(&observation);
            let partitions = observation.kafka.then_some(observation.seen.partitions);
            if let Some(partitions) = partitions {
                self.update_gate(partitions).await;
            }
            self.health.export(Timestamp::now().as_millisecond());
        }
    }

    /// Updates the consumption state. If MySQL does not answer, the former state stays.
    async fn update_gate(&self, partitions: usize) {
        let asked =
            group_control::consumption_state(&self.pool, &self.group, &self.topic, partitions);
        if let Ok(Ok(consumption_state)) = tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            let paused = matches!(consumption_state, ConsumptionState::Paused(_));
            gauge!(PAUSED, "group" => self.group.clone()).set(flag(paused));
            self.health.consumption_state(&consumption_state);
            self.consumption_state.send_if_modified(|known| {
                let changed = *known != consumption_state;
                *known = consumption_state;
                changed
            });
        }
    }
}

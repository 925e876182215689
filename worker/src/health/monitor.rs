//! Polls the servers every few seconds, for the health endpoint, the probes and the metrics.

use jiff::Timestamp;
use ljwx_ledger::group::monitor::{ANSWER_TIMEOUT, GroupWatch, INTERVAL};
use ljwx_ledger::metrics::PAUSED;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::metrics::flag;
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::mysql::group_control::{self, Gate};

/// The monitor of the servers.
pub struct Watch {
    pub group_watch: GroupWatch,
    pub pool: MySqlPool,
    pub group: String,
    pub topic: String,
    pub health: Health,
    pub gate: watch::Sender<Gate>,
}

impl Watch {
    /// Polls the servers until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            let look = self.group_watch.look(self.health.is_free()).await;
            self.health.observed(&look);
            let partitions = look.kafka.then_some(look.seen.ends.len());
            if let Some(partitions) = partitions {
                self.look_at_gate(partitions).await;
            }
            self.health.show(Timestamp::now().as_millisecond());
        }
    }

    /// Updates the consumption state. If MySQL does not answer, the former state stays.
    async fn look_at_gate(&self, partitions: usize) {
        let asked = group_control::gate(&self.pool, &self.group, &self.topic, partitions);
        if let Ok(Ok(gate)) = tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            let paused = matches!(gate, Gate::Paused(_));
            gauge!(PAUSED, "group" => self.group.clone()).set(flag(paused));
            self.health.gate(&gate);
            self.gate.send_if_modified(|known| {
                let changed = *known != gate;
                *known = gate;
                changed
            });
        }
    }
}

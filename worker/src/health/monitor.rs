//! Polls the servers every few seconds, for the health endpoint, the probes and the metrics.

use jiff::Timestamp;
use ljwx_ledger::group::monitor::{ANSWER_TIMEOUT, GroupMonitor, INTERVAL};
use ljwx_ledger::metrics::PAUSED;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_ledger::mysql::errors::{self, Remedy};
use ljwx_service::metrics::flag;
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

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
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            let (free, redis) = (self.health.is_free(), self.health.redis().are_accepted());
            let observation = self.group_watch.observe(free, redis).await;
            self.health.observed(&observation);
            let partitions = observation.kafka.then_some(observation.seen.partitions);
            let mysql_answers = observation.database;
            if let Some(partitions) = partitions {
                self.update_consumption_state(partitions, mysql_answers).await;
            }
            self.health.export(Timestamp::now().as_millisecond());
        }
    }

    /// Updates the consumption state. If the state cannot be read, the former state stays.
    async fn update_consumption_state(&self, partitions: usize, mysql_answers: bool) {
        let asked =
            group_control::consumption_state(&self.pool, &self.group, &self.topic, partitions);
        let error = match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(consumption_state)) => {
                self.set_consumption_state(consumption_state);
                None
            }
            // A missing table or right is an answer, although the monitor needs `ingest_topic`, too.
            Ok(Err(error)) if mysql_answers || errors::remedy(&error) == Remedy::Schema => {
                Some(errors::message(&error))
            }
            Err(_) if mysql_answers => {
                Some(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
            }
            // Another reason says so if MySQL does not answer at all.
            Ok(Err(_)) | Err(_) => return,
        };
        self.report_unreadable(error);
    }

    fn set_consumption_state(&self, consumption_state: ConsumptionState) {
        let paused = matches!(consumption_state, ConsumptionState::Paused(_));
        gauge!(PAUSED, "group" => self.group.clone()).set(flag(paused));
        self.health.consumption_state(&consumption_state);
        self.consumption_state.send_if_modified(|known| {
            let changed = *known != consumption_state;
            *known = consumption_state;
            changed
        });
    }

    fn report_unreadable(&self, error: Option<String>) {
        let is_known = *self.consumption_state.borrow() != ConsumptionState::Unknown;
        let next = match is_known {
            true => "the last known state stays",
            false => "no reading is taken in",
        };
        let why = |error: &String| format!("cannot read the pause of the group, {next}: {error}");
        if !self.health.consumption_unreadable(error.as_ref().map(why)) {
            return;
        }
        match error {
            Some(error) => warn!(
                error,
                "cannot read the pause of the group, {next}; run `worker migrate`, or grant SELECT on ingest_control and ingest_topic"
            ),
            None => info!("pause of the group read again"),
        }
    }
}

//! Reads what is known about one group: its rows in the ledger, its members, its lag.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_ledger::group::lag::{GroupState, Lag};
use ljwx_ledger::group::monitor::GroupMonitor;
use ljwx_ledger::ledger::{ClaimError, GroupKind, Ledger};
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::kafka::topic_reader::TopicReader;
use ljwx_service::kafka::{KafkaArgs, REQUEST_TIMEOUT};

use super::letters;
use super::report::{DeadLetterCounts, GroupStatus, PartitionStatus};
use crate::commands::part::Part;
use crate::mysql::group_control::{ConsumptionState, consumption_state};

/// The name by which the brokers log this command.
const CLIENT: &str = "worker-status";

/// Time for a count that ends at the deadline to return what it has read.
const COUNT_END: Duration = Duration::from_secs(1);

/// The reasons why a part is unknown whose server did not answer in time.
const LATE: &str = "no answer within a quarter of --timeout";
const LETTERS_LATE: &str = "no answer within --timeout";

/// One group to look at.
#[derive(Clone)]
pub struct GroupSearch {
    pub kafka: KafkaArgs,
    pub pool: MySqlPool,
    pub kind: GroupKind,
    pub group: String,
    /// Until when the servers may answer.
    pub servers_by: Instant,
    /// Until when dead letters are counted.
    pub deadline: Instant,
}

impl GroupSearch {
    /// Asks MySQL and Kafka about the group.
    pub async fn status(self) -> GroupStatus {
        let (partitions, members, dead_letters) = tokio::join!(
            Part::by(self.servers_by, LATE, self.partitions()),
            Part::by(self.servers_by, LATE, self.blocking(Self::members)),
            Part::by(self.deadline + COUNT_END, LETTERS_LATE, self.blocking(Self::dead_letters)),
        );
        let (partitions, halted) = match partitions {
            Part::Known((partitions, halted)) => (Part::Known(partitions), halted),
            Part::Unknown(reason) => (Part::Unknown(reason), None),
        };
        GroupStatus {
            topic: self.kafka.readings_topic,
            group: self.group,
            kind: self.kind.as_str(),
            halted,
            members,
            partitions,
            dead_letters,
        }
    }

    /// Returns the partitions, and why the group takes nothing in, if it does not.
    async fn partitions(&self) -> anyhow::Result<(Vec<PartitionStatus>, Option<String>)> {
        let topic = &self.kafka.readings_topic;
        let pool = self.pool.clone();
        let ledger = Ledger::new(pool.clone(), self.kind, &self.group, topic, CLIENT.to_owned());
        if let Err(error) = self.check_topic(&ledger).await {
            // What only a command of an operator changes is known to be wrong.
            let wrong = error.downcast_ref::<ClaimError>();
            let is_wrong = wrong.is_some_and(|wrong| !matches!(wrong, ClaimError::Database(_)));
            return if is_wrong { Ok((Vec::new(), Some(error.to_string()))) } else { Err(error) };
        }
        let bindings = DeviceBindings::new(pool);
        let mut monitor = GroupMonitor::new(&self.kafka, ledger, None, bindings, CLIENT)?;
        let (partitions, count) = loop {
            let found = monitor.observe(true, true).await;
            if found.database && found.kafka {
                break (partitions_of(found.seen, &found.lags), found.seen.partitions);
            }
            let silent = if found.database { "Kafka" } else { "MySQL" };
            ensure!(Instant::now() < self.servers_by, "{silent} does not answer");
        };
        // Nothing pauses alerters.
        if self.kind == GroupKind::Alerter {
            return Ok((partitions, None));
        }
        let halted = match consumption_state(&self.pool, &self.group, topic, count).await? {
            ConsumptionState::Unknown | ConsumptionState::Running => None,
            ConsumptionState::Paused(reason) => Some(format!("paused by command: {reason}")),
            ConsumptionState::Blocked(reason) => Some(reason),
        };
        Ok((partitions, halted))
    }

    /// Fails if the topic is another one than the ledger's, or none was accepted.
    async fn check_topic(&self, ledger: &Ledger) -> anyhow::Result<()> {
        let (accepted, search) = (ledger.accepted().await?.clone(), self.clone());
        let check = move || {
            let reader = TopicReader::new(&search.kafka, CLIENT)?;
            accepted.count_in(&reader, &search.kafka.readings_topic, REQUEST_TIMEOUT)
        };
        tokio::task::spawn_blocking(check).await?
    }

    /// Returns the members of the group. Blocks.
    fn members(&self) -> anyhow::Result<Vec<String>> {
        TopicReader::new(&self.kafka, CLIENT)?.members(&self.group)
    }

    /// Counts the dead letters of the group. Blocks.
    fn dead_letters(&self) -> anyhow::Result<DeadLetterCounts> {
        let reader = TopicReader::new(&self.kafka, CLIENT)?;
        letters::count(&reader, &self.kafka.dead_letter_topic(&self.group), self.deadline)
    }

    /// Runs blocking work.
    async fn blocking<T: Send + 'static>(
        &self,
        work: fn(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let search = self.clone();
        tokio::task::spawn_blocking(move || work(&search)).await?
    }
}

/// Returns each partition that the topic or the ledger has.
fn partitions_of(seen: &GroupState, lags: &[Lag]) -> Vec<PartitionStatus> {
    let known: BTreeSet<i32> =
        seen.ends.keys().chain(&seen.unanswered).chain(seen.ledger.keys()).copied().collect();
    let status = |partition: i32| {
        let lag = lags.iter().find(|lag| lag.partition == partition);
        let is_aged = |lag: &&Lag| lag.records == 0 || seen.oldest_ms.contains_key(&lag.partition);
        let row = seen.ledger.get(&partition);
        PartitionStatus {
            partition,
            owner: row.map(|(_, owner)| owner.clone()),
            ledger: row.map(|(entry, _)| *entry),
            ends: seen.ends.get(&partition).copied(),
            is_silent: seen.unanswered.contains(&partition),
            lag_records: lag.map_or(0, |lag| lag.records),
            lag_seconds: lag.filter(is_aged).map(|lag| lag.seconds),
        }
    };
    known.into_iter().map(status).collect()
}

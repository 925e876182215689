//! Reads what is known about one group: its rows in the ledger, its members, its lag.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::ensure;
use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_ledger::group::lag::{GroupState, Lag};
use ljwx_ledger::group::monitor::GroupMonitor;
use ljwx_ledger::ledger::{AcceptedTopic, GroupKind, Ledger};
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::kafka::topic_reader::TopicReader;
use ljwx_service::kafka::{KafkaArgs, REQUEST_TIMEOUT};
use tokio::time::timeout_at;

use super::letters;
use super::report::{DeadLetterCounts, GroupStatus, PartitionStatus};
use crate::commands::where_is::answers::Part;
use crate::mysql::group_control::{ConsumptionState, consumption_state};

/// The name by which the brokers log this command.
const CLIENT: &str = "worker-status";

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
            known(self.servers_by, self.partitions()),
            self.blocking(Self::members),
            self.blocking(Self::dead_letters),
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
        let accepted = ledger.accepted().await?.clone();
        let search = self.clone();
        tokio::task::spawn_blocking(move || search.check_topic(&accepted)).await??;
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

    /// Fails if the topic is another one than the ledger's. Blocks.
    fn check_topic(&self, accepted: &AcceptedTopic) -> anyhow::Result<()> {
        let reader = TopicReader::new(&self.kafka, CLIENT)?;
        accepted.count_in(&reader, &self.kafka.readings_topic, REQUEST_TIMEOUT)
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

    /// Runs blocking work, which ends by itself in time.
    async fn blocking<T: Send + 'static>(&self, work: fn(&Self) -> anyhow::Result<T>) -> Part<T> {
        let search = self.clone();
        match tokio::task::spawn_blocking(move || work(&search)).await {
            Ok(Ok(answer)) => Part::Known(answer),
            Ok(Err(error)) => Part::Unknown(format!("{error:#}")),
            Err(error) => Part::Unknown(error.to_string()),
        }
    }
}

/// Waits for an answer until the deadline.
async fn known<T>(deadline: Instant, work: impl Future<Output = anyhow::Result<T>>) -> Part<T> {
    match timeout_at(deadline.into(), work).await {
        Ok(Ok(answer)) => Part::Known(answer),
        Ok(Err(error)) => Part::Unknown(format!("{error:#}")),
        Err(_) => Part::Unknown("no answer within a quarter of --timeout".to_owned()),
    }
}

/// Returns each partition that the topic or the ledger has.
fn partitions_of(seen: &GroupState, lags: &[Lag]) -> Vec<PartitionStatus> {
    let known: BTreeSet<i32> =
        seen.ends.keys().chain(&seen.unanswered).chain(seen.ledger.keys()).copied().collect();
    let status = |partition: i32| {
        let lag = lags.iter().find(|lag| lag.partition == partition);
        let row = seen.ledger.get(&partition);
        PartitionStatus {
            partition,
            owner: row.map(|(_, owner)| owner.clone()),
            ledger: row.map(|(entry, _)| *entry),
            ends: seen.ends.get(&partition).copied(),
            is_silent: seen.unanswered.contains(&partition),
            lag_records: lag.map_or(0, |lag| lag.records),
            lag_seconds: lag.map_or(0.0, |lag| lag.seconds),
        }
    };
    known.into_iter().map(status).collect()
}

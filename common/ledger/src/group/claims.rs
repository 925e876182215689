//! Claims partitions in the ledger, and admits the records of claimed partitions only.
//!
//! Leaves rebalances to `rebalance`, which requests claims when Kafka assigns partitions.
//! `poll_thread` requests retries.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::gauge;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::delivery::ConsumerEvent;
use super::out_of_range::OutOfRange;
use super::topic_check::TopicCheck;
use crate::ledger::{Claim, ClaimError, Ledger};
use crate::metrics::{PARTITIONS_OWNED, PARTITIONS_UNCLAIMED};
use ljwx_service::kafka::REQUEST_TIMEOUT;

/// Longest delay of a rebalance by one claim.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

/// Most queries for the end of a partition that seems to lie before the ledger's position.
const END_QUERIES_MAX: u32 = 4;

/// Wait between two of these queries.
const END_QUERY_INTERVAL: Duration = Duration::from_secs(1);

/// The state of an assigned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClaimState {
    /// Claimed under `epoch`. Records below `next` are skipped.
    Active { epoch: i64, next: i64 },
    /// Unclaimed: assigned by Kafka, but not claimed in the ledger yet. Stays paused.
    Unclaimed,
}

/// The assigned partitions, and the ledger in which they are claimed.
pub(super) struct ClaimTable {
    ledger: Ledger,
    group: String,
    topic: String,
    runtime: Handle,
    control: mpsc::UnboundedSender<ConsumerEvent>,
    partitions: Mutex<BTreeMap<i32, ClaimState>>,
    topic_check: TopicCheck,
}

impl ClaimTable {
    pub(super) fn new(
        ledger: Ledger,
        group: String,
        topic: String,
        control: mpsc::UnboundedSender<ConsumerEvent>,
    ) -> Self {
        gauges(&BTreeMap::new());
        Self {
            ledger,
            group,
            topic,
            runtime: Handle::current(),
            control,
            partitions: Mutex::default(),
            topic_check: TopicCheck::default(),
        }
    }

    /// Admits a record and returns its epoch. Returns `None` if the record's partition is not
    /// claimed or its offset is already processed.
    pub(super) fn admit(&self, partition: i32, offset: i64) -> Option<i64> {
        match lock(&self.partitions).get_mut(&partition) {
            Some(ClaimState::Active { epoch, next }) if offset >= *next => {
                *next = offset + 1;
                Some(*epoch)
            }
            _ => None,
        }
    }

    /// Returns the base that the ledger adds to Kafka's offsets.
    pub(super) fn base(&self) -> i64 {
        self.ledger.base()
    }

    /// Whether everything fetched so far belongs to the accepted topic. If the topic is another,
    /// reports that the process must end. If the check fails, the topic counts as accepted. Blocks.
    pub(super) fn is_accepted_topic<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) -> bool {
        let checked = self.topic_check.check(consumer.client(), &self.ledger);
        let Err(error) = self.runtime.block_on(checked) else { return true };
        let refused = is_refused(&error);
        if refused {
            self.fail(format!("{error:#}"));
        } else {
            debug!(%error, "cannot check whether the topic is the accepted one, continuing");
            // Pause only if Kafka is silent: a deleted topic may be recreated at any moment.
            if error.downcast_ref::<KafkaError>().is_some() {
                self.topic_check.pause();
            }
        }
        !refused
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the runtime for the ledger's statements.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the claimed partitions of `list`.
    pub(super) fn active(&self, list: &TopicPartitionList) -> TopicPartitionList {
        let partitions = lock(&self.partitions);
        let mut active = TopicPartitionList::new();
        for element in list.elements() {
            if matches!(partitions.get(&element.partition()), Some(ClaimState::Active { .. })) {
                active.add_partition(&self.topic, element.partition());
            }
        }
        active
    }

    /// Reports a failure that only a new process can fix.
    pub(super) fn fail(&self, reason: String) {
        self.send(ConsumerEvent::Failed(reason));
    }

    pub(super) fn send(&self, event: ConsumerEvent) {
        // The pipeline ends before this sender only if the process is ending anyway.
        let _ = self.control.send(event);
    }

    pub(super) fn claim<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partition: i32,
    ) -> Option<Claim> {
        let claiming = async {
            self.topic_check.check(consumer.client(), &self.ledger).await?;
            let row = self.ledger.read(partition).await?;
            let gap = self.locate(consumer, partition, row.map(|row| row.next_offset)).await?;
            if let Some(message) = gap.message(&self.group) {
                // Claim nothing, so that the row stays unchanged for the operator.
                self.fail(message.clone());
                anyhow::bail!(message);
            }
            anyhow::Ok(self.ledger.claim(partition, gap.low).await?)
        };
        let claimed =
            self.runtime.block_on(async { tokio::time::timeout(CLAIM_TIMEOUT, claiming).await? });
        claimed
            .inspect_err(|error| {
                if is_refused(error) {
                    self.fail(format!("{error:#}"));
                }
                self.log_unclaimed(partition, error);
            })
            .ok()
    }

    /// Logs the first failed claim of a partition as a warning, later ones at debug. A successful
    /// claim logs itself.
    fn log_unclaimed(&self, partition: i32, error: &anyhow::Error) {
        if lock(&self.partitions).get(&partition) == Some(&ClaimState::Unclaimed) {
            debug!(partition, %error, "cannot claim partition yet, it stays paused");
        } else {
            warn!(partition, %error, "cannot claim partition, it stays paused");
        }
    }

    /// Returns the claimed partitions with the next offset of each.
    pub(super) fn positions(&self) -> Vec<(i32, i64)> {
        let partitions = lock(&self.partitions);
        let active = partitions.iter().filter_map(|(partition, state)| match state {
            ClaimState::Active { next, .. } => Some((*partition, *next)),
            ClaimState::Unclaimed => None,
        });
        active.collect()
    }

    /// Drops the claims of `gone`. Their records are no longer admitted.
    pub(super) fn release(&self, gone: &[i32]) {
        let mut partitions = lock(&self.partitions);
        partitions.retain(|partition, _| !gone.contains(partition));
        gauges(&partitions);
    }

    /// Makes the next claim query the topic's identity.
    pub(super) fn forget_topic(&self) {
        self.topic_check.forget();
    }

    /// Returns the first and the next offset of a partition, as the ledger counts.
    pub(super) fn ends<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partition: i32,
    ) -> KafkaResult<(i64, i64)> {
        let (low, high) = consumer.fetch_watermarks(&self.topic, partition, CLAIM_TIMEOUT)?;
        Ok((low + self.base(), high + self.base()))
    }

    /// Compares a partition's position with its topic. Without a position, uses the first offset.
    async fn locate<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partition: i32,
        position: Option<i64>,
    ) -> anyhow::Result<OutOfRange> {
        let mut asked = 0;
        loop {
            let (low, high) = self.ends(consumer, partition)?;
            let position = position.unwrap_or(low);
            asked += 1;
            // A new leader may briefly know an end that is too low: query again.
            if position <= high || asked == END_QUERIES_MAX {
                return Ok(OutOfRange { partition, position, low, high });
            }
            tokio::time::sleep(END_QUERY_INTERVAL).await;
        }
    }

    /// Returns the position of a claimed partition, as Kafka counts.
    pub(super) fn kafka_offset(&self, claim: &Claim) -> Offset {
        Offset::Offset(claim.next_offset - self.base())
    }

    pub(super) fn set_active(&self, claims: &[Claim]) {
        let mut partitions = lock(&self.partitions);
        for claim in claims {
            let state = ClaimState::Active { epoch: claim.epoch, next: claim.next_offset };
            partitions.insert(claim.partition, state);
            info!(
                partition = claim.partition,
                epoch = claim.epoch,
                next_offset = claim.next_offset,
                "partition claimed"
            );
        }
        gauges(&partitions);
        drop(partitions);
        if !claims.is_empty() {
            self.send(ConsumerEvent::Assigned(claims.to_vec()));
        }
    }

    pub(super) fn pause_unclaimed<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        waiting: &TopicPartitionList,
    ) {
        if waiting.count() == 0 {
            return;
        }
        let mut partitions = lock(&self.partitions);
        for element in waiting.elements() {
            partitions.insert(element.partition(), ClaimState::Unclaimed);
        }
        gauges(&partitions);
        drop(partitions);
        if let Err(error) = consumer.pause(waiting) {
            self.fail(format!("cannot pause partitions: {error}"));
        }
    }

    /// Retries the claims of all unclaimed partitions.
    pub(super) fn claim_waiting<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        let waiting: Vec<i32> = lock(&self.partitions)
            .iter()
            .filter(|(_, state)| **state == ClaimState::Unclaimed)
            .map(|(partition, _)| *partition)
            .collect();
        if !waiting.is_empty() {
            self.topic_check.forget();
        }
        for partition in waiting {
            // After one failure the others would fail too.
            let Some(claim) = self.claim(consumer, partition) else { return };
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.topic, partition);
            let moved = consumer
                .seek(&self.topic, partition, self.kafka_offset(&claim), REQUEST_TIMEOUT)
                .and_then(|()| consumer.resume(&list));
            match moved {
                Ok(()) => self.set_active(&[claim]),
                Err(error) => warn!(partition, %error, "cannot seek in partition, it stays paused"),
            }
        }
    }
}

/// Whether the error is permanent until an operator changes settings, ledger or topic.
pub(super) fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClaimError::Permanent(_)))
}

fn gauges(partitions: &BTreeMap<i32, ClaimState>) {
    let waiting = partitions.values().filter(|state| **state == ClaimState::Unclaimed).count();
    gauge!(PARTITIONS_UNCLAIMED).set(waiting as f64);
    gauge!(PARTITIONS_OWNED).set((partitions.len() - waiting) as f64);
}

/// Locks a map. A panic under the lock leaves the map usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

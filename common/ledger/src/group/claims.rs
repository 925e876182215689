//! Rebalances: claim in the ledger first, then assign from there; drain before giving away.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::consumer::{Event, Revocation};
use super::out_of_range::Gap;
use super::topic_check::TopicCheck;
use crate::ledger::{Claim, Ledger};
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::metrics::{CONSUMER_ERRORS, PARTITIONS_HELD, PARTITIONS_OWNED};

/// How long one claim may keep a rebalance waiting.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what was read of revoked partitions may take to be written before they go. Heartbeats
/// have a thread of their own, so this may be longer than a session.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the end of a topic is asked for that seems to lie before the ledger's position.
const ENDS_ASKED_MAX: u32 = 4;

/// How long to wait between two of these questions.
const ENDS_ASKED_AGAIN: Duration = Duration::from_secs(1);

/// What is known of an assigned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Claimed under `epoch`; records below `next` are not for us.
    Active { epoch: i64, next: i64 },
    /// Assigned by Kafka, but the ledger could not be read: paused until it can.
    Waiting,
}

/// The consumer's context: what is assigned, and the way to the ledger.
pub struct Assignment {
    ledger: Ledger,
    group: String,
    topic: String,
    runtime: Handle,
    control: mpsc::UnboundedSender<Event>,
    closing: CancellationToken,
    partitions: Mutex<BTreeMap<i32, Held>>,
    topic_check: TopicCheck,
}

impl Assignment {
    pub fn new(
        ledger: Ledger,
        group: String,
        topic: String,
        control: mpsc::UnboundedSender<Event>,
        closing: CancellationToken,
    ) -> Self {
        gauges(&BTreeMap::new());
        Self {
            ledger,
            group,
            topic,
            runtime: Handle::current(),
            control,
            closing,
            partitions: Mutex::default(),
            topic_check: TopicCheck::default(),
        }
    }

    /// Admits a record: the epoch it belongs to, or `None` for one that is not ours to process.
    pub fn admit(&self, partition: i32, offset: i64) -> Option<i64> {
        match lock(&self.partitions).get_mut(&partition) {
            Some(Held::Active { epoch, next }) if offset >= *next => {
                *next = offset + 1;
                Some(*epoch)
            }
            _ => None,
        }
    }

    /// What the ledger's offsets are ahead of Kafka's.
    pub fn base(&self) -> i64 {
        self.ledger.base()
    }

    /// Whether what has been fetched by now is of the accepted topic; where it is not, says so and that
    /// the process must end. Blocks.
    pub fn is_accepted_topic(&self, consumer: &BaseConsumer<Self>) -> bool {
        let checked = self.topic_check.check(consumer.client(), &self.ledger);
        let Err(error) = self.runtime.block_on(checked) else { return true };
        let refused = super::consumer::is_refused(&error);
        if refused {
            self.fail(format!("{error:#}"));
        } else {
            debug!(%error, "Kafka does not say whether the topic is the same");
            // A topic that is gone may be made anew at any moment.
            if error.downcast_ref::<KafkaError>().is_some() {
                self.topic_check.rest();
            }
        }
        !refused
    }

    /// The runtime that the ledger's statements run on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The partitions of `list` that are claimed.
    pub fn active(&self, list: &TopicPartitionList) -> TopicPartitionList {
        let partitions = lock(&self.partitions);
        let mut active = TopicPartitionList::new();
        for element in list.elements() {
            if matches!(partitions.get(&element.partition()), Some(Held::Active { .. })) {
                active.add_partition(&self.topic, element.partition());
            }
        }
        active
    }

    /// Reports a failure that only a new process can mend.
    pub fn fail(&self, reason: String) {
        self.send(Event::Failed(reason));
    }

    /// Reports that a position lies outside the topic, naming the partitions where that is so.
    pub fn fail_outside(&self, consumer: &BaseConsumer<Self>, error: &KafkaError) {
        // Of a topic that was made anew this is no gap, and there is another way out.
        self.topic_check.forget();
        if !self.is_accepted_topic(consumer) {
            return;
        }
        let held = lock(&self.partitions).clone();
        let outside = held.into_iter().filter_map(|(partition, held)| {
            let Held::Active { next: position, .. } = held else { return None };
            let (low, high) = self.ends(consumer, partition).ok()?;
            Gap { partition, position, low, high }.message(&self.group)
        });
        let outside: Vec<String> = outside.collect();
        self.fail(if outside.is_empty() {
            format!("the ledger stands outside the topic: {error}; see `worker offsets`")
        } else {
            outside.join("; ")
        });
    }

    fn send(&self, event: Event) {
        // The pipeline ends before its source only when the process is going down anyway.
        let _ = self.control.send(event);
    }

    fn claim(&self, consumer: &BaseConsumer<Self>, partition: i32) -> Option<Claim> {
        let claiming = async {
            self.topic_check.check(consumer.client(), &self.ledger).await?;
            let row = self.ledger.read(partition).await?;
            let gap = self.gap(consumer, partition, row.map(|row| row.next_offset)).await?;
            if let Some(message) = gap.message(&self.group) {
                // Nothing is claimed: whoever mends it shall find the row as it was.
                self.fail(message.clone());
                anyhow::bail!(message);
            }
            anyhow::Ok(self.ledger.claim(partition, gap.low).await?)
        };
        let claimed =
            self.runtime.block_on(async { tokio::time::timeout(CLAIM_TIMEOUT, claiming).await? });
        claimed
            .inspect_err(|error| {
                if super::consumer::is_refused(error) {
                    self.fail(format!("{error:#}"));
                }
                self.tell_held(partition, error);
            })
            .ok()
    }

    /// Says once that a partition has to wait; that it need not any more, its claim says.
    fn tell_held(&self, partition: i32, error: &anyhow::Error) {
        if lock(&self.partitions).get(&partition) == Some(&Held::Waiting) {
            debug!(partition, %error, "partition still held");
        } else {
            warn!(partition, %error, "partition held: its ledger row cannot be claimed");
        }
    }

    /// Where a partition begins and ends, as the ledger counts.
    fn ends(&self, consumer: &BaseConsumer<Self>, partition: i32) -> KafkaResult<(i64, i64)> {
        let (low, high) = consumer.fetch_watermarks(&self.topic, partition, CLAIM_TIMEOUT)?;
        Ok((low + self.base(), high + self.base()))
    }

    /// Where a partition stands in its topic; without a position, at the first record.
    async fn gap(
        &self,
        consumer: &BaseConsumer<Self>,
        partition: i32,
        position: Option<i64>,
    ) -> anyhow::Result<Gap> {
        let mut asked = 0;
        loop {
            let (low, high) = self.ends(consumer, partition)?;
            let position = position.unwrap_or(low);
            asked += 1;
            // A new leader may not know for a moment how far its followers have come.
            if position <= high || asked == ENDS_ASKED_MAX {
                return Ok(Gap { partition, position, low, high });
            }
            tokio::time::sleep(ENDS_ASKED_AGAIN).await;
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let wanted: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        self.topic_check.forget();
        let mut claims = Vec::new();
        let mut waiting = TopicPartitionList::new();
        let mut reachable = true;
        for partition in &wanted {
            // One that fails is enough: each would keep the rebalance waiting as long.
            let claim = if reachable { self.claim(consumer, *partition) } else { None };
            reachable = claim.is_some();
            // Before the assign: a seek right after it fails. What waits is paused, wherever it is.
            let start = claim.map_or(Offset::Beginning, |claim| self.kafka_offset(&claim));
            if let Err(error) = list.set_partition_offset(&self.topic, *partition, start) {
                self.fail(format!("cannot start partition {partition}: {error}"));
            }
            match claim {
                Some(claim) => claims.push(claim),
                None => {
                    waiting.add_partition(&self.topic, *partition);
                }
            }
        }
        self.set_active(&claims);
        if wanted.is_empty() {
            self.send(Event::Assigned(Vec::new()));
        }
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        if let Err(error) = assigned {
            self.fail(format!("cannot take partitions: {error}"));
        }
        self.hold(consumer, &waiting);
    }

    /// Where a claimed partition goes on, as Kafka counts.
    fn kafka_offset(&self, claim: &Claim) -> Offset {
        Offset::Offset(claim.next_offset - self.base())
    }

    fn set_active(&self, claims: &[Claim]) {
        let mut partitions = lock(&self.partitions);
        for claim in claims {
            let held = Held::Active { epoch: claim.epoch, next: claim.next_offset };
            partitions.insert(claim.partition, held);
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
            self.send(Event::Assigned(claims.to_vec()));
        }
    }

    fn hold(&self, consumer: &BaseConsumer<Self>, waiting: &TopicPartitionList) {
        if waiting.count() == 0 {
            return;
        }
        let mut partitions = lock(&self.partitions);
        for element in waiting.elements() {
            partitions.insert(element.partition(), Held::Waiting);
        }
        gauges(&partitions);
        drop(partitions);
        if let Err(error) = consumer.pause(waiting) {
            self.fail(format!("cannot pause partitions: {error}"));
        }
    }

    /// Tries again for what is assigned but not claimed.
    pub fn claim_waiting(&self, consumer: &BaseConsumer<Self>) {
        let waiting: Vec<i32> = lock(&self.partitions)
            .iter()
            .filter(|(_, held)| **held == Held::Waiting)
            .map(|(partition, _)| *partition)
            .collect();
        if !waiting.is_empty() {
            self.topic_check.forget();
        }
        for partition in waiting {
            // One answer that does not come is enough: the next would not come either.
            let Some(claim) = self.claim(consumer, partition) else { return };
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.topic, partition);
            let moved = consumer
                .seek(&self.topic, partition, self.kafka_offset(&claim), REQUEST_TIMEOUT)
                .and_then(|()| consumer.resume(&list));
            match moved {
                Ok(()) => self.set_active(&[claim]),
                Err(error) => warn!(partition, %error, "partition held: it cannot be moved yet"),
            }
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let gone: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let lost = consumer.assignment_lost();
        {
            let mut partitions = lock(&self.partitions);
            partitions.retain(|partition, _| !gone.contains(partition));
            gauges(&partitions);
        }
        if !gone.is_empty() && !self.closing.is_cancelled() {
            info!(partitions = ?gone, lost, "partitions revoked");
            let (done, drained) = oneshot::channel();
            self.send(Event::Revoked(Revocation { partitions: gone, lost, done: Some(done) }));
            if !lost {
                let wait = async {
                    tokio::select! {
                        done = tokio::time::timeout(DRAIN_TIMEOUT, drained) => done.is_ok(),
                        () = self.closing.cancelled() => true,
                    }
                };
                if !self.runtime.block_on(wait) {
                    warn!("revoked partitions were not drained in time; their new owner replays");
                }
            }
        }
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        if let Err(error) = unassigned {
            warn!(%error, "cannot give partitions away");
        }
    }
}

fn gauges(partitions: &BTreeMap<i32, Held>) {
    let waiting = partitions.values().filter(|held| **held == Held::Waiting).count();
    gauge!(PARTITIONS_HELD).set(waiting as f64);
    gauge!(PARTITIONS_OWNED).set((partitions.len() - waiting) as f64);
}

/// A panic while the lock was held leaves a map that is still a map.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConsumerContext for Assignment {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list),
            error => {
                warn!(error = %RDKafkaErrorCode::from(error), "rebalance failed");
                self.revoke(consumer, list);
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            super::consumer::count_commit_error(&error);
        }
    }
}

impl ClientContext for Assignment {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let label = code.map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}"));
        counter!(CONSUMER_ERRORS, "code" => label).increment(1);
        warn!(%error, reason, "consumer error");
        if code == Some(RDKafkaErrorCode::Fatal) {
            self.fail(reason.to_owned());
        }
    }
}

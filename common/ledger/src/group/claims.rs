//! Claims assigned partitions in the ledger, and starts each at the ledger's position. Pauses
//! partitions that are not claimed, or for which the pipeline has no room.
//!
//! Leaves the state of the partitions to `assignment`, and rebalances to `rebalance`. `poll_thread`
//! requests retries.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::assignment::{Assignment, ClaimFailure};
use super::delivery::ConsumerEvent;
use super::fetch_position::{read_positions, seek, start};
use super::out_of_range::OutOfRange;
use super::topic_check::TopicCheck;
use crate::ledger::{Claim, ClaimError, Ledger};
use crate::metrics::{PARTITIONS_OWNED, PARTITIONS_UNCLAIMED};

/// Longest delay of a rebalance by one claim.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a leader's answer about the ends of a partition. Polling waits as long.
const ENDS_TIMEOUT: Duration = Duration::from_secs(2);

/// The assigned partitions, and the ledger in which they are claimed.
pub(super) struct ClaimTable {
    ledger: Ledger,
    runtime: Handle,
    control: mpsc::UnboundedSender<ConsumerEvent>,
    assignment: Mutex<Assignment>,
    topic_check: TopicCheck,
    /// Whether a failed pause or resume has been logged.
    pause_failing: AtomicBool,
}

impl ClaimTable {
    pub(super) fn new(ledger: Ledger, control: mpsc::UnboundedSender<ConsumerEvent>) -> Self {
        let table = Self {
            ledger,
            runtime: Handle::current(),
            control,
            assignment: Mutex::default(),
            topic_check: TopicCheck::default(),
            pause_failing: AtomicBool::new(false),
        };
        table.change(|_| {});
        table
    }

    /// Returns the assignment. A panic under the lock leaves the assignment usable.
    fn assignment(&self) -> MutexGuard<'_, Assignment> {
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes which partitions are claimed, and exports their numbers.
    fn change<T>(&self, change: impl FnOnce(&mut Assignment) -> T) -> T {
        let mut assignment = self.assignment();
        let changed = change(&mut assignment);
        let (claimed, unclaimed) = assignment.counts();
        gauge!(PARTITIONS_OWNED).set(claimed as f64);
        gauge!(PARTITIONS_UNCLAIMED).set(unclaimed as f64);
        changed
    }

    /// Admits a record and returns its epoch. Returns `None` if the record's partition is not
    /// claimed or its offset is already processed.
    pub(super) fn admit(&self, partition: i32, offset: i64) -> Option<i64> {
        self.assignment().admit(partition, offset)
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

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns the runtime for the ledger's statements.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Reports a failure that only a new process can fix.
    pub(super) fn fail(&self, reason: String) {
        self.send(ConsumerEvent::Failed(reason));
    }

    pub(super) fn send(&self, event: ConsumerEvent) {
        // The pipeline ends before this sender only if the process is ending anyway.
        let _ = self.control.send(event);
    }

    /// Makes the next claim query the topic's identity.
    pub(super) fn forget_topic(&self) {
        self.topic_check.forget();
    }

    /// Adds assigned partitions. They stay unclaimed until [`Self::serve`].
    pub(super) fn add(&self, partitions: &[i32]) {
        self.change(|assignment| assignment.add(partitions, Instant::now()));
    }

    /// Drops revoked partitions. Their records are no longer admitted. Returns those that are paused.
    pub(super) fn release(&self, gone: &[i32]) -> TopicPartitionList {
        self.list(&self.change(|assignment| assignment.remove(gone)))
    }

    /// Claims partitions in the ledger, and returns the claims. A failed claim is tried again later.
    pub(super) fn claim<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &[i32],
    ) -> Vec<Claim> {
        let mut claims = Vec::new();
        for partition in partitions {
            let claiming = self.try_claim(consumer, *partition);
            let claimed = self.runtime.block_on(async {
                let claimed = tokio::time::timeout(CLAIM_TIMEOUT, claiming).await;
                claimed.unwrap_or_else(|late| Err(ClaimFailure::Server(late.into())))
            });
            match claimed {
                Ok(claim) => claims.push(claim),
                Err(failure) => {
                    self.log_failure(*partition, &failure);
                    if failure.concerns_others() {
                        break;
                    }
                }
            }
        }
        if consumer.assignment_lost() {
            // This process was frozen, and others own the partitions. They claim them again.
            claims.clear();
        }
        claims
    }

    async fn try_claim<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partition: i32,
    ) -> Result<Claim, ClaimFailure> {
        let checked = self.topic_check.check(consumer.client(), &self.ledger).await;
        checked.map_err(ClaimFailure::Server)?;
        let row = self.ledger.read(partition).await;
        let row = row.map_err(|error| ClaimFailure::Server(error.into()))?;
        let (low, high) = self.ends(consumer, partition).map_err(ClaimFailure::NoLeader)?;
        let position = row.map_or(low, |row| row.next_offset);
        let found = OutOfRange { partition, position, low, high };
        if let Some(message) = found.message(self.ledger.group()) {
            // Claim nothing, so that the row stays unchanged for the operator. What was read before
            // is still written.
            return Err(ClaimFailure::OutOfRange(message));
        }
        let former_epoch = self.assignment().last_epoch(partition);
        let claimed = self.ledger.claim(partition, low, former_epoch).await;
        claimed.map_err(|error| ClaimFailure::Server(error.into()))
    }

    /// Logs a failed claim as a warning if its kind is new, else at debug. A successful claim logs
    /// itself.
    fn log_failure(&self, partition: i32, failure: &ClaimFailure) {
        if let ClaimFailure::Server(error) = failure
            && is_refused(error)
        {
            self.fail(format!("{error:#}"));
        }
        let (now, random) = (Instant::now(), rand::random());
        if self.assignment().failed(partition, failure, now, random) {
            warn!(partition, error = %failure, "cannot claim partition, it stays paused");
        } else {
            debug!(partition, error = %failure, "cannot claim partition yet, it stays paused");
        }
    }

    /// Admits the records of these claims from now on, and reports the claims to the pipeline.
    pub(super) fn serve(&self, claims: Vec<Claim>) {
        self.change(|assignment| {
            claims.iter().for_each(|claim| assignment.claimed(claim, Instant::now()));
        });
        for Claim { partition, epoch, next_offset, .. } in &claims {
            info!(partition, epoch, next_offset, "partition claimed");
        }
        self.send(ConsumerEvent::Assigned(claims));
    }

    /// Ends a claim that the ledger no longer accepts. If Kafka still assigns the partition, it is
    /// claimed again. Returns `false` if the claim has ended before.
    pub(super) fn unclaim(&self, partition: i32, epoch: i64) -> bool {
        let (now, random) = (Instant::now(), rand::random());
        self.change(|assignment| assignment.unclaim(partition, epoch, now, random))
    }

    /// Returns partition, epoch and next offset of each claim.
    pub(super) fn positions(&self) -> Vec<(i32, i64, i64)> {
        self.assignment().positions()
    }

    /// Ends the claims of the partitions that librdkafka has stopped fetching: the topic does not
    /// have their next record. librdkafka does not name them, but accepts no seek in them.
    pub(super) fn unclaim_stopped<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        for (partition, epoch, next) in self.positions() {
            let offset = self.kafka_offset(next);
            if seek(consumer, self.ledger.topic(), partition, offset).is_err() {
                self.unclaim(partition, epoch);
            }
        }
    }

    /// Returns the first and the next offset of a partition, as the ledger counts.
    fn ends<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partition: i32,
    ) -> KafkaResult<(i64, i64)> {
        let (low, high) =
            consumer.fetch_watermarks(self.ledger.topic(), partition, ENDS_TIMEOUT)?;
        Ok((low + self.base(), high + self.base()))
    }

    /// Returns an offset of the ledger as Kafka counts.
    pub(super) fn kafka_offset(&self, offset: i64) -> Offset {
        Offset::Offset(offset - self.base())
    }

    /// Claims the unclaimed partitions that have waited long enough. [`Self::apply_pauses`] starts
    /// them.
    pub(super) fn claim_waiting<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        let due = self.assignment().due(Instant::now());
        if due.is_empty() || consumer.assignment_lost() {
            return;
        }
        self.topic_check.forget();
        let claims = self.claim(consumer, &due);
        if !claims.is_empty() {
            self.serve(claims);
        }
    }

    /// Notes how far the consumer has read. Every record that it polled is admitted by now.
    pub(super) fn note_read<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        self.assignment().note_read(&read_positions(consumer), self.base());
    }

    /// Returns the end of a partition's records, given the end of its offsets.
    pub(super) fn record_end(&self, partition: i32, end: i64) -> i64 {
        self.assignment().record_end(partition, end)
    }

    /// Resumes claimed partitions, each at its next record. Every resume starts anew, because a
    /// pause may discard the error by which librdkafka reports that it has stopped fetching.
    fn resume<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &[i32],
    ) -> KafkaResult<()> {
        let positions = self.positions();
        for (partition, _, next) in positions.iter().filter(|at| partitions.contains(&at.0)) {
            let offset = self.kafka_offset(*next);
            if let Err(error) = start(consumer, self.ledger.topic(), *partition, offset) {
                self.fail(format!("cannot start partition {partition}: {error}"));
            }
        }
        consumer.resume(&self.list(partitions))
    }

    /// Returns why partitions are unclaimed.
    pub(super) fn unclaimed(&self) -> Vec<String> {
        self.assignment().unclaimed()
    }

    pub(super) fn hold_back(&self, partitions: BTreeSet<i32>) {
        self.assignment().hold_back(partitions);
    }

    pub(super) fn set_full(&self, full: bool) {
        self.assignment().set_full(full);
    }

    /// Pauses and resumes partitions as their claims and the pipeline's room demand. The next call
    /// tries again what fails.
    pub(super) fn apply_pauses<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        let mut failed = None;
        for pause in [true, false] {
            let partitions = self.assignment().to_change(pause);
            if partitions.is_empty() {
                continue;
            }
            let changed = match pause {
                true => consumer.pause(&self.list(&partitions)),
                false => self.resume(consumer, &partitions),
            };
            match changed {
                Ok(()) => self.assignment().changed(&partitions, pause),
                Err(error) => failed = Some(error),
            }
        }
        let logged = self.pause_failing.swap(failed.is_some(), Ordering::Relaxed);
        match failed {
            Some(error) if !logged => warn!(%error, "cannot pause or resume partitions, retrying"),
            None if logged => info!("pausing and resuming of partitions recovered"),
            Some(_) | None => {}
        }
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(self.ledger.topic(), *partition);
        }
        list
    }
}

/// Whether the error is permanent until an operator changes settings, ledger or topic.
pub(super) fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClaimError::Permanent(_)))
}

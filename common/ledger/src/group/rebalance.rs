//! Handles Kafka's rebalances. An assigned partition is claimed, then started. A revoked partition
//! is drained, then given up.
//!
//! Leaves the ledger to `claims`.

use std::time::Duration;

use metrics::counter;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::claims::ClaimTable;
use super::delivery::{ConsumerEvent, Revocation};
use super::out_of_range::OutOfRange;
use crate::metrics::{CONSUMER_ERRORS, count_commit_error};
use ljwx_service::kafka::error_label;

/// Longest time to write what was read of revoked partitions. Heartbeats have a thread of their
/// own, so this may be longer than a session.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The context of the group's consumer, which handles its rebalances.
pub(super) struct RebalanceContext {
    pub(super) claims: ClaimTable,
    /// Cancelled when the member leaves the group. Nothing is drained any more then.
    pub(super) closing: CancellationToken,
}

impl RebalanceContext {
    /// Reports that positions lie outside the topic, and names the partitions.
    pub(super) fn fail_out_of_range(&self, consumer: &BaseConsumer<Self>, error: &KafkaError) {
        // If the topic was recreated, no offsets are missing and the remedy is another.
        self.claims.forget_topic();
        if !self.claims.is_accepted_topic(consumer) {
            return;
        }
        let outside = self.claims.positions().into_iter().filter_map(|(partition, position)| {
            let (low, high) = self.claims.ends(consumer, partition).ok()?;
            OutOfRange { partition, position, low, high }.message(self.claims.group())
        });
        let outside: Vec<String> = outside.collect();
        self.claims.fail(if outside.is_empty() {
            format!("the ledger stands outside the topic: {error}; see `worker offsets`")
        } else {
            outside.join("; ")
        });
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let wanted: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        self.claims.forget_topic();
        let mut claims = Vec::new();
        let mut waiting = TopicPartitionList::new();
        let mut reachable = true;
        for partition in &wanted {
            // After one failure claim no further partition: each attempt would delay the rebalance
            // as long.
            let claim = if reachable { self.claims.claim(consumer, *partition) } else { None };
            reachable = claim.is_some();
            // Set the offset before the assignment, because a seek right after it fails. An
            // unclaimed partition is paused, so its offset does not matter.
            let start = claim.map_or(Offset::Beginning, |claim| self.claims.kafka_offset(&claim));
            if let Err(error) = list.set_partition_offset(self.claims.topic(), *partition, start) {
                self.claims.fail(format!("cannot start partition {partition}: {error}"));
            }
            match claim {
                Some(claim) => claims.push(claim),
                None => {
                    waiting.add_partition(self.claims.topic(), *partition);
                }
            }
        }
        self.claims.set_active(&claims);
        if wanted.is_empty() {
            self.claims.send(ConsumerEvent::Assigned(Vec::new()));
        }
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        if let Err(error) = assigned {
            self.claims.fail(format!("cannot take partitions: {error}"));
        }
        self.claims.pause_unclaimed(consumer, &waiting);
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let gone: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let lost = consumer.assignment_lost();
        self.claims.release(&gone);
        if !gone.is_empty() && !self.closing.is_cancelled() {
            info!(partitions = ?gone, lost, "partitions revoked");
            let (done, drained) = oneshot::channel();
            self.claims.send(ConsumerEvent::Revoked(Revocation {
                partitions: gone,
                lost,
                done: Some(done),
            }));
            if !lost {
                let wait = async {
                    tokio::select! {
                        done = tokio::time::timeout(DRAIN_TIMEOUT, drained) => done.is_ok(),
                        () = self.closing.cancelled() => true,
                    }
                };
                if !self.claims.runtime().block_on(wait) {
                    warn!("revoked partitions not drained in time, their next owner replays");
                }
            }
        }
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        if let Err(error) = unassigned {
            warn!(%error, "cannot release partitions");
        }
    }
}

impl ConsumerContext for RebalanceContext {
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
                warn!(error = %RDKafkaErrorCode::from(error), "rebalance failed, releasing the partitions");
                self.revoke(consumer, list);
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            count_commit_error(&error);
        }
    }
}

impl ClientContext for RebalanceContext {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        counter!(CONSUMER_ERRORS, "code" => error_label(code)).increment(1);
        warn!(%error, reason, "Kafka consumer reported an error");
        if code == Some(RDKafkaErrorCode::Fatal) {
            self.claims.fail(reason.to_owned());
        }
    }
}

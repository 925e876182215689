//! Handles Kafka's rebalances. An assigned partition is claimed, then started. A revoked partition
//! is drained, then given up.
//!
//! Leaves the ledger to `claims`.

use std::sync::Arc;
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
use crate::metrics::{CONSUMER_ERRORS, count_commit_error};
use ljwx_service::kafka::error_label;
use ljwx_service::kafka::error_log::ErrorLog;

/// Longest time to write what was read of revoked partitions. Heartbeats have a thread of their
/// own, so this may be longer than a session.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The context of the group's consumer, which handles its rebalances.
pub(super) struct RebalanceContext {
    pub(super) claims: Arc<ClaimTable>,
    pub(super) errors: ErrorLog,
    closing: CancellationToken,
}

impl RebalanceContext {
    /// Creates the context. `closing` is cancelled when the member leaves the group. Nothing is
    /// drained any more then.
    pub(super) fn new(claims: Arc<ClaimTable>, closing: CancellationToken) -> Self {
        Self { claims, errors: ErrorLog::default(), closing }
    }

    /// Holds the partitions whose positions lie outside the topic. The other partitions continue.
    pub(super) fn hold_out_of_range(&self, consumer: &BaseConsumer<Self>) {
        // If the topic was recreated, no offsets are missing and the remedy is another.
        self.claims.forget_topic();
        if self.claims.is_accepted_topic(consumer) {
            self.claims.unclaim_stopped(consumer);
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let wanted: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        self.claims.forget_topic();
        self.claims.add(&wanted);
        let claims = self.claims.claim(consumer, &wanted);
        for partition in wanted {
            // Set the offset before the assignment, because a seek right after it fails. An
            // unclaimed partition is paused, so its offset does not matter.
            let claim = claims.iter().find(|claim| claim.partition == partition);
            let next = claim.map(|claim| self.claims.kafka_offset(claim.next_offset));
            let start = next.unwrap_or(Offset::Beginning);
            if let Err(error) =
                list.set_partition_offset(self.claims.ledger().topic(), partition, start)
            {
                self.claims.fail(format!("cannot start partition {partition}: {error}"));
            }
        }
        self.claims.serve(claims);
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        if let Err(error) = assigned {
            self.claims.fail(format!("cannot take partitions: {error}"));
        }
        self.claims.apply_pauses(consumer);
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let gone: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let lost = consumer.assignment_lost();
        let paused = self.claims.release(&gone);
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
        // librdkafka keeps a pause beyond the assignment.
        if paused.count() > 0
            && let Err(error) = consumer.resume(&paused)
        {
            warn!(%error, "cannot resume released partitions");
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
        if self.errors.admits(&error) {
            warn!(%error, reason, "Kafka consumer reported an error");
        }
        if code == Some(RDKafkaErrorCode::Fatal) {
            self.claims.fail(reason.to_owned());
        }
    }
}

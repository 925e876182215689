//! Sends the dead letters of a batch, if the breaker allows it. Kafka confirms a dead letter before
//! its offset counts.

pub mod breaker;
pub mod source;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ljwx_ledger::group::dead_letter_topic::{DeadLetterReason, DeadLetterTopic};
use ljwx_service::metrics::flag;
use metrics::gauge;
use tracing::{error, info, warn};

use crate::batch::spans;
use crate::batch::{Batch, Segment};
use crate::dead_letter::breaker::DeadLetterBreaker;
use crate::health::Health;
use crate::metrics::BREAKER_OPEN;

/// Sends deliveries that cannot be stored to the dead-letter topic.
pub struct DeadLetterSender {
    topic: DeadLetterTopic,
    breaker: Mutex<DeadLetterBreaker>,
    /// The batches that the breaker holds back. Other batches continue.
    held: Mutex<HashSet<String>>,
    health: Health,
}

/// The breaker is open: there are too many dead letters, and the batch has to wait.
#[derive(Debug, PartialEq, Eq)]
pub struct BreakerOpen;

impl DeadLetterSender {
    /// Creates a sender to `topic`, of as many dead letters as `breaker` allows.
    pub fn new(topic: DeadLetterTopic, breaker: DeadLetterBreaker, health: Health) -> Self {
        gauge!(BREAKER_OPEN).set(0.0);
        Self { topic, breaker: Mutex::new(breaker), held: Mutex::default(), health }
    }

    /// Sends the dead letters of a batch that Kafka has not confirmed yet, and retries until it
    /// does.
    pub async fn send(&self, batch: &mut Batch) -> Result<(), BreakerOpen> {
        let pending = batch.segments.iter().flat_map(|s| &s.dead_letters).any(|l| !l.confirmed);
        if !pending {
            return Ok(());
        }
        if !self.allows(batch) {
            return Err(BreakerOpen);
        }
        for segment in &mut batch.segments {
            self.send_segment(segment, &batch.id).await;
        }
        Ok(())
    }

    async fn send_segment(&self, segment: &mut Segment, batch_id: &str) {
        for letter in segment.dead_letters.iter_mut().filter(|letter| !letter.confirmed) {
            let found = segment.deliveries.iter().find(|held| held.offset == letter.offset);
            let Some(delivery) = found else { continue };
            let reason = DeadLetterReason {
                class: letter.class,
                code: letter.code.as_deref(),
                message: &letter.message,
                batch_id: Some(batch_id),
            };
            let held = |why| self.health.dead_letter_held(delivery.partition, why);
            let form = self.topic.publish(delivery, &reason, held).await;
            letter.confirmed = true;
            let origin = delivery.origin.context();
            let trace_id = origin.as_ref().map(|origin| origin.trace_id().to_string());
            spans::dead_letter(self.topic.name(), origin, letter, segment.partition, batch_id);
            warn!(
                partition = segment.partition,
                offset = letter.offset,
                class = letter.class.as_str(),
                code = letter.code,
                batch.id = batch_id,
                trace_id,
                same_partition = form.same_partition,
                complete = form.complete,
                "delivery dead-lettered"
            );
        }
    }

    fn allows(&self, batch: &Batch) -> bool {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = breaker.allows(Instant::now(), &marks(batch));
        drop(breaker);
        if !allowed && self.hold(&batch.id) {
            error!(
                batch.id,
                batch.size = batch.records(),
                dead_letters = batch.dead_letters(),
                "dead-letter breaker opened, MySQL rejects too many readings; look for a change to the tables or to what devices send, then restart or raise --dead-letter-ratio-max"
            );
        }
        allowed
    }

    /// Counts a committed batch in the breaker.
    pub fn committed(&self, batch: &Batch) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.note(Instant::now(), &marks(batch));
    }

    /// Removes an ended batch from the held ones, with any outcome. The breaker closes after the
    /// last.
    pub fn done(&self, batch_id: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.remove(batch_id) && held.is_empty() {
            self.export(false);
            info!(batch.id = batch_id, "dead-letter breaker closed");
        }
    }

    /// Holds a batch back. Returns `true` if it is the first held batch.
    fn hold(&self, batch_id: &str) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(batch_id.to_owned());
        self.export(true)
    }

    fn export(&self, open: bool) -> bool {
        gauge!(BREAKER_OPEN).set(flag(open));
        self.health.breaker(open)
    }
}

/// Returns for every record in order whether it is a dead letter.
fn marks(batch: &Batch) -> Vec<bool> {
    let of = |segment: &'_ Segment| -> Vec<bool> {
        let letter =
            |offset| segment.dead_letters.binary_search_by_key(&offset, |l| l.offset).is_ok();
        segment.deliveries.iter().map(|delivery| letter(delivery.offset)).collect()
    };
    batch.segments.iter().flat_map(of).collect()
}

//! Sends the dead letters of a batch, if the breaker allows it. Kafka confirms a dead letter before
//! its offset counts. `record_source` reads their records again.

pub mod breaker;
pub mod record_source;
pub mod source;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::join_all;
use ljwx_ledger::group::dead_letter_topic::{DeadLetterForm, DeadLetterReason, DeadLetterTopic};
use ljwx_ledger::group::delivery::{Delivery, RawRecord};
use ljwx_service::kafka::producer::publisher::PublishError;
use ljwx_service::metrics::flag;
use metrics::gauge;
use tracing::{error, info, warn};

use crate::batch::spans;
use crate::batch::{Batch, Segment};
use crate::dead_letter::breaker::DeadLetterBreaker;
use crate::dead_letter::record_source::{FoundRecords, RecordSource, WantedOffsets};
use crate::health::Health;
use crate::metrics::BREAKER_OPEN;

/// The kind of a dead letter that Kafka has not confirmed.
pub const UNCONFIRMED: &str = "dead_letter";

/// Sends deliveries that cannot be stored to the dead-letter topic.
pub struct DeadLetterSender {
    topic: DeadLetterTopic,
    record_source: RecordSource,
    breaker: Mutex<DeadLetterBreaker>,
    /// The batches that the breaker holds back. Other batches continue.
    held: Mutex<HashSet<String>>,
    health: Health,
}

/// The reason why the dead letters of a batch are not all in Kafka. The batch has to wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The breaker is open.
    #[error("too many dead letters")]
    BreakerOpen,
    /// Kafka did not confirm a dead letter.
    #[error("dead letter {partition}/{offset}: {error}")]
    Unconfirmed { partition: i32, offset: i64, error: PublishError },
    /// Kafka did not bring the record of a dead letter again in time.
    #[error("dead letter {partition}/{offset}: its record cannot be read again")]
    Unread { partition: i32, offset: i64 },
}

impl NotSent {
    /// Returns the stable word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BreakerOpen => "breaker",
            Self::Unconfirmed { .. } | Self::Unread { .. } => UNCONFIRMED,
        }
    }
}

/// A dead letter to be sent: the indexes of its segment, of the letter and of its delivery in the
/// segment.
#[derive(Debug, Clone, Copy)]
struct Outgoing {
    segment: usize,
    letter: usize,
    delivery: usize,
}

impl Outgoing {
    fn delivery(self, batch: &Batch) -> &Delivery {
        &batch.segments[self.segment].deliveries[self.delivery]
    }
}

impl DeadLetterSender {
    /// Creates a sender to `topic`, of as many dead letters as `breaker` allows.
    pub fn new(
        topic: DeadLetterTopic,
        record_source: RecordSource,
        breaker: DeadLetterBreaker,
        health: Health,
    ) -> Self {
        gauge!(BREAKER_OPEN).set(0.0);
        let (breaker, held) = (Mutex::new(breaker), Mutex::default());
        Self { topic, record_source, breaker, held, health }
    }

    /// Sends the dead letters of a batch that Kafka has not confirmed yet. An error may leave some
    /// of them confirmed.
    pub async fn send(&self, batch: &mut Batch) -> Result<(), NotSent> {
        if !batch.segments.iter().any(Segment::has_unconfirmed) {
            return Ok(());
        }
        if !self.allows(batch) {
            return Err(NotSent::BreakerOpen);
        }
        let outgoing = unconfirmed(batch);
        let records = self.records(batch, &outgoing).await;
        let mut sending = Vec::with_capacity(outgoing.len());
        for (letter, record) in outgoing.iter().zip(&records) {
            sending.push(self.send_one(batch, *letter, record.as_deref()));
        }
        let sent = join_all(sending).await;
        drop(records);
        let mut result = Ok(());
        for (letter, sent) in outgoing.into_iter().zip(sent) {
            match sent {
                Ok(form) => self.confirm(batch, letter, form),
                // The others do not wait for this one.
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Returns the record of each dead letter, in their order. `None` if Kafka has not brought it
    /// again.
    async fn records<'a>(
        &self,
        batch: &'a Batch,
        outgoing: &[Outgoing],
    ) -> Vec<Option<Cow<'a, RawRecord>>> {
        let deliveries: Vec<&Delivery> =
            outgoing.iter().map(|letter| letter.delivery(batch)).collect();
        let mut wanted = WantedOffsets::new();
        for delivery in deliveries.iter().filter(|delivery| delivery.reading.is_ok()) {
            wanted.entry(delivery.partition).or_default().insert(delivery.offset);
        }
        let mut found = self.record_source.read(wanted).await;
        deliveries.into_iter().map(|delivery| record(delivery, &mut found)).collect()
    }

    /// Hands a dead letter to Kafka at once, and returns the wait for its confirmation.
    fn send_one<'a>(
        &'a self,
        batch: &'a Batch,
        outgoing: Outgoing,
        record: Option<&'a RawRecord>,
    ) -> impl Future<Output = Result<DeadLetterForm, NotSent>> + 'a {
        let segment = &batch.segments[outgoing.segment];
        let letter = &segment.dead_letters[outgoing.letter];
        let reason = DeadLetterReason {
            class: letter.class,
            code: letter.code.as_deref(),
            message: &letter.message,
            batch_id: Some(&batch.id),
        };
        let delivery = outgoing.delivery(batch);
        let (partition, offset) = (delivery.partition, delivery.offset);
        let sent = record.map(|record| self.topic.send(delivery, record, reason));
        async move {
            let Some(sent) = sent else { return Err(NotSent::Unread { partition, offset }) };
            sent.await.map_err(|error| NotSent::Unconfirmed { partition, offset, error })
        }
    }

    /// Marks and logs a dead letter that Kafka has confirmed.
    fn confirm(&self, batch: &mut Batch, outgoing: Outgoing, form: DeadLetterForm) {
        let Batch { id, segments, .. } = batch;
        let batch_id: &str = id;
        let segment = &mut segments[outgoing.segment];
        let letter = &mut segment.dead_letters[outgoing.letter];
        letter.confirmed = true;
        let origin = segment.deliveries[outgoing.delivery].origin.context();
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

    fn allows(&self, batch: &Batch) -> bool {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = breaker.allows(Instant::now(), &marks(batch));
        drop(breaker);
        if !allowed && self.hold(&batch.id) {
            error!(
                batch.id,
                batch.size = batch.records(),
                dead_letters = batch.dead_letters(),
                "dead-letter breaker opened, MySQL rejects too many readings; look for a change to the tables or to what devices send, then restart, or raise --dead-letter-ratio-max and --dead-letters-consecutive-max"
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

/// Returns the dead letters that Kafka has not confirmed, in order.
fn unconfirmed(batch: &Batch) -> Vec<Outgoing> {
    let mut outgoing = Vec::new();
    for (segment, held) in batch.segments.iter().enumerate() {
        let letters = held.dead_letters.iter().enumerate();
        for (letter, dead_letter) in letters.filter(|(_, letter)| !letter.confirmed) {
            let found = held.index_of(dead_letter);
            outgoing.extend(found.map(|delivery| Outgoing { segment, letter, delivery }));
        }
    }
    outgoing
}

/// Returns the record of a delivery, which only an undecodable one keeps.
fn record<'a>(delivery: &'a Delivery, found: &mut FoundRecords) -> Option<Cow<'a, RawRecord>> {
    match &delivery.reading {
        Ok(reading) => found.take(delivery, reading).map(Cow::Owned),
        Err(undecodable) => Some(Cow::Borrowed(&undecodable.record)),
    }
}

/// Returns for every record in order whether it is a dead letter.
fn marks(batch: &Batch) -> Vec<bool> {
    let mut marks = Vec::with_capacity(batch.records());
    for segment in &batch.segments {
        marks.extend(segment.deliveries.iter().map(|delivery| segment.is_dead_letter(delivery)));
    }
    marks
}

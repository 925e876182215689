//! Sends the dead letters of a batch, if the breaker allows it. Kafka confirms a dead letter before
//! its offset counts.

pub mod breaker;
pub mod source;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::join_all;
use ljwx_ledger::group::dead_letter_topic::{DeadLetterForm, DeadLetterReason, DeadLetterTopic};
use ljwx_service::kafka::producer::publisher::PublishError;
use ljwx_service::metrics::flag;
use metrics::gauge;
use tracing::{error, info, warn};

use crate::batch::spans;
use crate::batch::{Batch, Segment};
use crate::dead_letter::breaker::DeadLetterBreaker;
use crate::health::Health;
use crate::metrics::BREAKER_OPEN;

/// The kind of [`NotSent::Unconfirmed`].
pub const UNCONFIRMED: &str = "dead_letter";

/// Sends deliveries that cannot be stored to the dead-letter topic.
pub struct DeadLetterSender {
    topic: DeadLetterTopic,
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
}

impl NotSent {
    /// Returns the stable word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BreakerOpen => "breaker",
            Self::Unconfirmed { .. } => UNCONFIRMED,
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

impl DeadLetterSender {
    /// Creates a sender to `topic`, of as many dead letters as `breaker` allows.
    pub fn new(topic: DeadLetterTopic, breaker: DeadLetterBreaker, health: Health) -> Self {
        gauge!(BREAKER_OPEN).set(0.0);
        Self { topic, breaker: Mutex::new(breaker), held: Mutex::default(), health }
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
        let mut sending = Vec::with_capacity(outgoing.len());
        for letter in &outgoing {
            sending.push(self.send_one(batch, *letter));
        }
        let mut result = Ok(());
        for (letter, sent) in outgoing.into_iter().zip(join_all(sending).await) {
            match sent {
                Ok(form) => self.confirm(batch, letter, form),
                // The others do not wait for this one.
                Err(error) => result = result.and(Err(not_sent(batch, letter, error))),
            }
        }
        result
    }

    /// Hands a dead letter to Kafka at once, and returns the wait for its confirmation.
    fn send_one<'a>(
        &'a self,
        batch: &'a Batch,
        outgoing: Outgoing,
    ) -> impl Future<Output = Result<DeadLetterForm, PublishError>> + 'a {
        let segment = &batch.segments[outgoing.segment];
        let letter = &segment.dead_letters[outgoing.letter];
        let reason = DeadLetterReason {
            class: letter.class,
            code: letter.code.as_deref(),
            message: &letter.message,
            batch_id: Some(&batch.id),
        };
        self.topic.send(&segment.deliveries[outgoing.delivery], reason)
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

/// Returns the dead letters that Kafka has not confirmed, in order.
fn unconfirmed(batch: &Batch) -> Vec<Outgoing> {
    let mut outgoing = Vec::new();
    for (segment, held) in batch.segments.iter().enumerate() {
        let letters = held.dead_letters.iter().enumerate();
        for (letter, dead_letter) in letters.filter(|(_, letter)| !letter.confirmed) {
            let offset = dead_letter.offset;
            let found = held.deliveries.binary_search_by_key(&offset, |delivery| delivery.offset);
            outgoing.extend(found.ok().map(|delivery| Outgoing { segment, letter, delivery }));
        }
    }
    outgoing
}

fn not_sent(batch: &Batch, outgoing: Outgoing, error: PublishError) -> NotSent {
    let segment = &batch.segments[outgoing.segment];
    let offset = segment.dead_letters[outgoing.letter].offset;
    NotSent::Unconfirmed { partition: segment.partition, offset, error }
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

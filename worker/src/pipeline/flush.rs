//! Brings a batch to its end: confirms the dead letters, writes rows and ledger in one transaction,
//! then updates Redis. Decides whether to hold the batch, to release a partition, or to continue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use ljwx_ledger::ledger::{Advance, Counts, LedgerPosition};
use ljwx_service::telemetry::trace;
use metrics::{counter, histogram};
use opentelemetry::Context;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::held_batch::HeldBatch;
use crate::batch::batch_metrics;
use crate::batch::redis_progress::RedisWrite;
use crate::batch::row::Identity;
use crate::batch::spans::{BatchSpans, SpanNames};
use crate::batch::{Batch, DeadLetter, Segment};
use crate::dead_letter::{DeadLetterSender, NotSent};
use crate::health::Health;
use crate::metrics::{DATABASE_INSERT_SECONDS, REDIS_ERRORS, REDIS_UPDATE_SECONDS, WRITE_ERRORS};
use crate::mysql::bisect::BatchBisect;
use crate::mysql::device_ids;
use crate::mysql::{BatchWriter, WriteError};
use crate::redis::LatestHashes;
use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_ledger::mysql::errors::Remedy;

/// Waits after which a batch that fails again keeps one segment and puts the others back: only one of
/// them may be the reason.
const SPLIT_AFTER: u32 = 1;

/// The outcome of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentOutcome {
    /// Written and accounted for up to `to`.
    Written { to: i64, in_redis: RedisWrite },
    /// The ledger has another claim or another position. Nothing was written for the segment. Only
    /// a new claim shows where to continue.
    Fenced,
}

/// Partition, epoch and outcome of each segment.
pub type FlushResult = Vec<(i32, i64, SegmentOutcome)>;

/// Writes batches, with the parts that a batch passes.
pub struct Flush {
    pub store: BatchWriter,
    pub latest: Option<Arc<LatestHashes>>,
    pub dead_letter_sender: DeadLetterSender,
    pub bindings: DeviceBindings,
    pub health: Health,
    pub names: SpanNames,
    /// Whether the outage of Redis has been logged.
    pub redis_outage_logged: AtomicBool,
}

impl Flush {
    /// Brings one batch to its end. Returns only then, however long MySQL is unreachable. Sends
    /// segments that need not wait with the batch to `put_back`.
    pub async fn flush(
        &self,
        mut batch: Batch,
        put_back: mpsc::UnboundedSender<Segment>,
    ) -> FlushResult {
        let started = Instant::now();
        let spans = BatchSpans::start(&self.names, &batch);
        batch_metrics::taken(&batch, Timestamp::now().as_millisecond());
        let mut ended =
            FlushState { flushed: FlushResult::new(), counts: Counts::default(), put_back };
        let counts = self.write(&mut batch, &mut ended, spans.context()).await;
        self.dead_letter_sender.done(&batch.id);
        self.account(&batch, &counts, &mut ended);
        let in_redis = self.update_redis(&batch, spans.context()).await;
        for (segment, in_redis) in batch.segments.iter().zip(in_redis) {
            let outcome = SegmentOutcome::Written { to: segment.to, in_redis };
            ended.flushed.push((segment.partition, segment.epoch, outcome));
        }
        batch_metrics::done(&batch, &ended.counts, started.elapsed(), trace::id(spans.context()));
        spans.end(&ended.counts);
        ended.flushed
    }

    /// Retries until no segment of the batch is left to write. Each kind of error has one remedy
    /// here.
    async fn write(
        &self,
        batch: &mut Batch,
        ended: &mut FlushState,
        parent: &Context,
    ) -> Vec<Counts> {
        let mut hold = HeldBatch::new(&batch.id, parent, self.health.clone());
        while !batch.segments.is_empty() {
            if let Err(error) = self.dead_letter_sender.send(batch).await {
                // Only segments with dead letters wait for them.
                ended.put_back(batch, |segment| !segment.has_unconfirmed());
                hold.wait(batch.partitions(), error.kind(), &error.to_string()).await;
                if error == NotSent::BreakerOpen {
                    self.reconsider(batch, &hold).await;
                }
                continue;
            }
            let attempt = match device_ids::fill(&self.bindings, &mut batch.segments).await {
                Ok(()) => self.attempt(batch, parent).await,
                Err(error) => Err(WriteError::from(error)),
            };
            match attempt {
                Ok(counts) => {
                    hold.over();
                    return counts;
                }
                Err(WriteError::Retry { remedy, message, unanswered }) => {
                    note_unanswered(batch, &unanswered);
                    // A saturated server gets no further batches, and without a table all wait.
                    let splits = remedy == Remedy::Infrastructure;
                    ended.wait(batch, &mut hold, splits, (remedy.as_str(), &message)).await;
                }
                Err(WriteError::Data { code, message, suspect }) => {
                    debug!(batch.id, code, "MySQL rejected a value, searching for its delivery");
                    let suspect = suspect.as_ref();
                    self.isolate_data_errors(batch, ended, &mut hold, &message, suspect).await;
                }
                Err(WriteError::Fenced(advances)) => {
                    self.resolve_fenced(&advances, batch, ended, &mut hold).await;
                }
            }
        }
        Vec::new()
    }

    fn bisect<'a>(&'a self, batch: &'a Batch) -> BatchBisect<'a> {
        BatchBisect { store: &self.store, bindings: &self.bindings, batch }
    }

    /// Retries all deliveries that MySQL rejected if it accepts one of them by now: the cause may be
    /// fixed. Each turn tries one delivery, because the search for all of them takes many
    /// transactions.
    async fn reconsider(&self, batch: &mut Batch, hold: &HeldBatch) {
        let turn = hold.attempts() as usize;
        // If MySQL does not answer, the dead letters stay for the next turn.
        if self.bisect(batch).accepts_again(turn).await.unwrap_or(false) {
            batch.segments.iter_mut().for_each(Segment::reconsider);
        }
    }

    /// Counts committed segments once, for both ways in which a commit is noticed.
    fn account(&self, batch: &Batch, counts: &[Counts], ended: &mut FlushState) {
        if batch.segments.is_empty() {
            return;
        }
        batch_metrics::committed(batch, counts, Timestamp::now().as_millisecond());
        counts.iter().for_each(|counts| ended.counts += *counts);
        self.dead_letter_sender.committed(batch);
        self.health.stored(batch.records() as i64, batch.dead_letters() as i64);
    }

    /// Finds the deliveries that MySQL rejects and makes dead letters of them. The next attempt
    /// writes the rest.
    async fn isolate_data_errors(
        &self,
        batch: &mut Batch,
        ended: &FlushState,
        hold: &mut HeldBatch,
        message: &str,
        suspect: Option<&Identity>,
    ) {
        let found = self.bisect(batch).isolate(suspect).await;
        match found {
            Ok(found) if found.is_empty() => {
                // The cause was fixed during the search, or the tables change from attempt to
                // attempt. No delivery can be named, so retry.
                let why = format!(
                    "MySQL rejects the batch and accepts it in a trial; look for triggers: {message}"
                );
                ended.wait(batch, hold, true, (Remedy::Data.as_str(), &why)).await;
            }
            Ok(found) => {
                for segment in &mut batch.segments {
                    let own = |(partition, letter): &(i32, DeadLetter)| {
                        (*partition == segment.partition).then(|| letter.clone())
                    };
                    segment.add_dead_letters(found.iter().filter_map(own).collect());
                }
            }
            Err(error) => {
                let splits = error.kind() == Remedy::Infrastructure.as_str();
                ended.wait(batch, hold, splits, (error.kind(), &error.to_string())).await;
            }
        }
    }

    async fn attempt(&self, batch: &Batch, parent: &Context) -> Result<Vec<Counts>, WriteError> {
        let started = Instant::now();
        let span = crate::batch::spans::database_insert(parent, batch);
        let result = self.store.write(batch).await;
        histogram!(DATABASE_INSERT_SECONDS).record(started.elapsed());
        if let Err(error) = &result {
            counter!(WRITE_ERRORS, "kind" => error.kind()).increment(1);
            let since = SystemTime::now() - started.elapsed();
            crate::batch::spans::failed_insert(parent, batch, since, error.kind());
        }
        crate::batch::spans::end(&span, result.as_ref().err().map(WriteError::kind));
        result
    }

    /// Queries the ledger for the reason of each fenced advance, and takes these segments out of
    /// the batch. The next attempt writes the rest.
    async fn resolve_fenced(
        &self,
        advances: &[Advance],
        batch: &mut Batch,
        ended: &mut FlushState,
        hold: &mut HeldBatch,
    ) {
        let mut own = Batch { id: batch.id.clone(), reason: batch.reason, segments: Vec::new() };
        let mut counts = Vec::new();
        for advance in advances {
            let position = self.position(advance, hold).await;
            let outcome = match position {
                LedgerPosition::Committed => {
                    SegmentOutcome::Written { to: advance.to, in_redis: RedisWrite::Missed }
                }
                LedgerPosition::Lost | LedgerPosition::At(_) => SegmentOutcome::Fenced,
            };
            warn!(
                partition = advance.partition,
                ?position,
                "ledger compare-and-set failed, continuing from the ledger's position"
            );
            ended.flushed.push((advance.partition, advance.epoch, outcome));
            let segments =
                batch.segments.extract_if(.., |held| held.partition == advance.partition);
            if position == LedgerPosition::Committed {
                for segment in segments {
                    counts.push(segment.unanswered.unwrap_or(advance.counts));
                    own.segments.push(segment);
                }
            } else {
                segments.for_each(drop);
            }
        }
        self.account(&own, &counts, ended);
    }

    async fn position(&self, advance: &Advance, hold: &mut HeldBatch) -> LedgerPosition {
        loop {
            match self.store.ledger().position(advance).await {
                Ok(position) => return position,
                Err(error) => {
                    let message = error.to_string();
                    let reason = Remedy::Infrastructure.as_str();
                    hold.wait(vec![advance.partition], reason, &message).await;
                }
            }
        }
    }

    async fn update_redis(&self, batch: &Batch, parent: &Context) -> Vec<RedisWrite> {
        let missed = || vec![RedisWrite::Missed; batch.segments.len()];
        let Some(latest) = &self.latest else { return missed() };
        let started = Instant::now();
        let span = crate::batch::spans::redis_update(parent, batch);
        let result = latest.update(batch).await;
        histogram!(REDIS_UPDATE_SECONDS).record(started.elapsed());
        crate::batch::spans::end(&span, result.as_ref().err().map(|_| "redis"));
        match &result {
            Ok(_) if self.redis_outage_logged.swap(false, Ordering::Relaxed) => {
                info!(batch.id, "Redis writes recovered, repairing missed devices");
            }
            Ok(_) => {}
            Err(error) => {
                counter!(REDIS_ERRORS).increment(1);
                if !self.redis_outage_logged.swap(true, Ordering::Relaxed) {
                    warn!(batch.id, %error, "cannot write batches to Redis, continuing with MySQL only");
                }
            }
        }
        result.unwrap_or_else(|_| missed())
    }
}

/// The outcome of a batch so far.
struct FlushState {
    flushed: FlushResult,
    counts: Counts,
    put_back: mpsc::UnboundedSender<Segment>,
}

impl FlushState {
    /// Puts the segments that are `free` back into their lanes, which write them alone.
    fn put_back(&self, batch: &mut Batch, free: impl Fn(&Segment) -> bool) {
        for segment in batch.segments.extract_if(.., |segment| free(segment)) {
            // The receiver is gone only if the process is ending.
            let _ = self.put_back.send(segment);
        }
    }

    /// Waits before the next attempt. With `splits`, one segment may be the reason: a batch that has
    /// waited before then keeps its first segment and puts the others back.
    async fn wait(
        &self,
        batch: &mut Batch,
        hold: &mut HeldBatch,
        splits: bool,
        (kind, why): (&'static str, &str),
    ) {
        if splits && hold.attempts() >= SPLIT_AFTER {
            let kept = batch.segments.first().map(|segment| segment.partition);
            self.put_back(batch, |segment| Some(segment.partition) != kept);
        }
        hold.wait(batch.partitions(), kind, why).await;
    }
}

/// Keeps the counts of a COMMIT without an answer with the segments.
fn note_unanswered(batch: &mut Batch, unanswered: &[Advance]) {
    for segment in &mut batch.segments {
        let own = unanswered.iter().find(|advance| advance.partition == segment.partition);
        segment.unanswered = own.map(|advance| advance.counts).or(segment.unanswered);
    }
}

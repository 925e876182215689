//! What becomes of a batch: dead letters confirmed, rows and ledger in one transaction, then Redis.
//! This is where it is decided whether to hold, to give up a partition, or to go on.

use std::time::{Duration, Instant};

use common::backoff::Backoff;
use common::dead_letter::{DeadLetters, ErrorClass};
use common::ledger::{Advance, Standing};
use metrics::{counter, histogram};
use opentelemetry::Context;
use tracing::{debug, error, warn};

use crate::batch::{Batch, Segment};
use crate::health::Health;
use crate::metrics::{
    BATCH_PROCESSING_SECONDS, BATCH_QUEUE_WAIT_SECONDS, BATCH_SIZE, BATCHES,
    DATABASE_INSERT_SECONDS, END_TO_END_SECONDS, READINGS, REDIS_ERRORS, REDIS_UPDATE_SECONDS,
    WRITE_ERRORS,
};
use crate::redis::Latest;
use crate::spans::{BatchSpans, SpanNames};
use crate::store::{Store, WriteError};

/// First wait after an attempt that failed.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest wait between attempts: how late a database's return may be noticed.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What became of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written and accounted for up to `to`.
    Written { to: i64, in_redis: bool },
    /// Another process has the partition; nothing was written for it.
    Lost,
    /// The ledger stands where nobody expects it; only a new claim tells from where to go on.
    Astray { at: i64 },
}

/// A segment's partition and claim, and what became of it.
pub type Flushed = Vec<(i32, i64, Outcome)>;

/// The parts a batch goes through.
pub struct Flush {
    pub store: Store,
    pub latest: Option<Latest>,
    pub letters: DeadLetters,
    pub health: Health,
    pub names: SpanNames,
}

impl Flush {
    /// Brings one batch to its end; returns only then, however long the database is away.
    pub async fn flush(&self, mut batch: Batch) -> Flushed {
        let started = Instant::now();
        let spans = BatchSpans::start(&self.names, &batch);
        queue_wait(&batch);
        self.send_letters(&batch.segments).await;
        let mut flushed = Flushed::new();
        let mut stored = Vec::new();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        while !batch.segments.is_empty() {
            match self.attempt(&batch, spans.context()).await {
                Ok(counts) => {
                    stored = counts;
                    break;
                }
                Err(WriteError::Infrastructure(error)) => {
                    self.health.write_failed();
                    let wait = backoff.next(rand::random());
                    if backoff.attempts() == 1 {
                        warn!(batch.id, %error, "batch held: the database does not take it; retrying");
                    }
                    tokio::time::sleep(wait).await;
                }
                Err(WriteError::Fenced(advances)) => {
                    self.settle(&advances, &mut batch, &mut flushed, &mut backoff).await;
                }
            }
        }
        if backoff.attempts() > 0 && !batch.segments.is_empty() {
            warn!(batch.id, attempts = backoff.attempts(), "batch written after retries");
        }
        self.written(&batch, &stored);
        let in_redis = self.update_redis(&batch, spans.context()).await;
        for segment in &batch.segments {
            let outcome = Outcome::Written { to: segment.to, in_redis };
            flushed.push((segment.partition, segment.epoch, outcome));
        }
        spans.end(&batch, &stored);
        histogram!(BATCH_PROCESSING_SECONDS).record(started.elapsed());
        log(&batch, &stored, started.elapsed());
        flushed
    }

    async fn attempt(&self, batch: &Batch, parent: &Context) -> Result<Vec<i64>, WriteError> {
        let started = Instant::now();
        let span = crate::spans::database_insert(parent, batch);
        let result = self.store.write(batch).await;
        histogram!(DATABASE_INSERT_SECONDS).record(started.elapsed());
        if let Err(error) = &result {
            counter!(WRITE_ERRORS, "kind" => error.kind()).increment(1);
        }
        crate::spans::end(&span, result.as_ref().err().map(WriteError::kind));
        result
    }

    /// Deliveries that are no readings go to the dead-letter topic, confirmed, before their offset
    /// may count; while Kafka does not take them, nothing else of the batch is written either.
    async fn send_letters(&self, segments: &[Segment]) {
        for letter in segments.iter().flat_map(|segment| &segment.letters) {
            let reason = match &letter.reading {
                Err(error) => error.to_string(),
                Ok(_) => continue,
            };
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
            loop {
                let confirmed = match self.letters.send(letter, ErrorClass::Undecodable, &reason) {
                    Ok(pending) => pending.confirmed().await.map(drop),
                    Err(error) => Err(error),
                };
                let Err(error) = confirmed else { break };
                let wait = backoff.next(rand::random());
                warn!(partition = letter.partition, offset = letter.offset, %error, "dead letter not confirmed; retrying");
                tokio::time::sleep(wait).await;
            }
            warn!(
                partition = letter.partition,
                offset = letter.offset,
                class = ErrorClass::Undecodable.as_str(),
                "delivery dead-lettered"
            );
        }
    }

    /// Asks the ledger what a failed compare-and-set means, and takes those segments out of the
    /// batch; the rest is written without them.
    async fn settle(
        &self,
        advances: &[Advance],
        batch: &mut Batch,
        flushed: &mut Flushed,
        backoff: &mut Backoff,
    ) {
        for advance in advances {
            let standing = loop {
                match self.store.ledger().standing(advance).await {
                    Ok(standing) => break standing,
                    Err(_) => tokio::time::sleep(backoff.next(rand::random())).await,
                }
            };
            let outcome = match standing {
                Standing::Lost => Outcome::Lost,
                Standing::Committed => Outcome::Written { to: advance.to, in_redis: false },
                Standing::At(at) => Outcome::Astray { at },
            };
            warn!(
                partition = advance.partition,
                ?outcome,
                "the ledger had moved without this batch"
            );
            flushed.push((advance.partition, advance.epoch, outcome));
            batch.segments.retain(|segment| segment.partition != advance.partition);
        }
    }

    fn written(&self, batch: &Batch, stored: &[i64]) {
        let stored_total: i64 = stored.iter().sum();
        let deliveries: i64 = batch.segments.iter().map(|segment| segment.deliveries).sum();
        let letters = batch.records() - deliveries;
        for (outcome, count) in [
            ("stored", stored_total),
            ("merged", deliveries - stored_total),
            ("dead_lettered", letters),
        ] {
            counter!(READINGS, "outcome" => outcome).increment(count.max(0) as u64);
        }
        counter!(BATCHES, "reason" => batch.reason.as_str()).increment(1);
        histogram!(BATCH_SIZE).record(batch.records() as f64);
        self.health.stored(batch.records(), letters);
        let now = jiff::Timestamp::now().as_millisecond();
        for segment in &batch.segments {
            histogram!(END_TO_END_SECONDS).record((now - segment.oldest_ms).max(0) as f64 / 1000.0);
        }
    }

    async fn update_redis(&self, batch: &Batch, parent: &Context) -> bool {
        let Some(latest) = &self.latest else { return false };
        let started = Instant::now();
        let span = crate::spans::redis_update(parent, batch);
        let result = latest.update(batch).await;
        histogram!(REDIS_UPDATE_SECONDS).record(started.elapsed());
        crate::spans::end(&span, result.as_ref().err().map(|_| "redis"));
        if let Err(error) = &result {
            counter!(REDIS_ERRORS).increment(1);
            debug!(batch.id, %error, "Redis does not have this batch");
        }
        result.is_ok()
    }
}

fn queue_wait(batch: &Batch) {
    let now = jiff::Timestamp::now().as_millisecond();
    let records = batch.records().max(1);
    let oldest = batch.segments.iter().map(|segment| segment.oldest_ms).min().unwrap_or(now);
    let sum: i64 = batch.segments.iter().map(|segment| segment.sum_ms).sum();
    for (statistic, milliseconds) in [("oldest", now - oldest), ("mean", now - sum / records)] {
        histogram!(BATCH_QUEUE_WAIT_SECONDS, "statistic" => statistic)
            .record(milliseconds.max(0) as f64 / 1000.0);
    }
}

fn log(batch: &Batch, stored: &[i64], took: Duration) {
    for segment in batch.segments.iter().filter(|segment| segment.gap > 0) {
        // Nothing compacts this topic, so a hole in it is worth a look.
        warn!(
            partition = segment.partition,
            from = segment.from,
            to = segment.to,
            gap = segment.gap,
            "offsets without a record"
        );
    }
    if stored.len() != batch.segments.len() {
        error!(batch.id, "a batch's counts do not fit its segments");
    }
    debug!(
        batch.id,
        batch.size = batch.records(),
        batch.stored = stored.iter().sum::<i64>(),
        batch.reason = batch.reason.as_str(),
        seconds = took.as_secs_f64(),
        "batch written"
    );
}

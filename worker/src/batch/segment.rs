//! The contiguous deliveries of one partition in a batch, merged by identity.

use std::collections::HashMap;

use ljwx_ledger::group::dead_letter_topic::ErrorClass;
use ljwx_ledger::group::delivery::{Delivery, DeliveryLoad, Replay, Undecodable};
use ljwx_ledger::ledger::{Advance, Counts};
use opentelemetry::trace::SpanContext;

use super::row::{self, Identity, REJECT_SOURCE, ReadingRow};

/// A contiguous range of one partition's deliveries, merged by identity.
#[derive(Debug)]
pub struct Segment {
    pub partition: i32,
    /// Epoch of the claim under which the deliveries were read.
    pub epoch: i64,
    /// First offset.
    pub from: i64,
    /// One past the last offset.
    pub to: i64,
    /// Every delivery in order, because any of them may have to be dead-lettered, and the others
    /// merged anew.
    pub deliveries: Vec<Delivery>,
    /// Rows by identity, of all deliveries that are neither dead letters nor in `replays`.
    pub rows: HashMap<Identity, ReadingRow>,
    /// Rows of replayed dead letters, each with its first source, and of replayed rejects. They are
    /// not merged with others: a merged row has one source, and theirs is older. A dead letter whose
    /// partition is gone counts as a reject.
    pub replays: Vec<(Identity, ReadingRow)>,
    /// Deliveries that are dead letters, in order.
    pub dead_letters: Vec<DeadLetter>,
    /// Offsets without a record.
    pub gap: i64,
    /// Bytes of the deliveries' values, and of whole records if they are undecodable.
    pub bytes: usize,
    /// Memory that the deliveries take, in bytes.
    memory_bytes: usize,
    /// Oldest Kafka record time, in milliseconds.
    pub oldest_ms: i64,
    /// Sum of Kafka record times in milliseconds, for their mean.
    pub sum_ms: i64,
    /// Trace contexts of the sampled deliveries.
    pub origins: Vec<SampledSpan>,
    /// Offset up to which Redis was current before this segment, if known.
    pub redis_offset: Option<i64>,
    /// Whether another segment of the partition waits behind this segment.
    pub has_successor: bool,
    /// Counts of the last COMMIT without an answer. A retry finds the rows stored, so only the
    /// attempt that stored them knows which were new.
    pub unanswered: Option<Counts>,
}

/// A delivery of a segment that cannot be stored, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub offset: i64,
    /// Class of the error, a stable word.
    pub class: ErrorClass,
    /// Error code of MySQL.
    pub code: Option<String>,
    /// Error message, without any value.
    pub message: String,
    /// Whether Kafka has confirmed the dead letter.
    pub confirmed: bool,
}

/// The trace context of a sampled delivery.
#[derive(Debug, Clone)]
pub struct SampledSpan {
    /// The span that sent the delivery.
    pub context: SpanContext,
    pub offset: i64,
}

impl Segment {
    /// Creates an empty segment that begins at `from`.
    pub fn new(partition: i32, epoch: i64, from: i64) -> Self {
        Self {
            partition,
            epoch,
            from,
            to: from,
            deliveries: Vec::new(),
            rows: HashMap::new(),
            replays: Vec::new(),
            dead_letters: Vec::new(),
            gap: 0,
            bytes: 0,
            memory_bytes: 0,
            oldest_ms: i64::MAX,
            sum_ms: 0,
            origins: Vec::new(),
            redis_offset: None,
            has_successor: false,
            unanswered: None,
        }
    }

    /// Adds the next delivery of the partition.
    pub fn push(&mut self, delivery: Delivery, origin: Option<SpanContext>) {
        self.gap += delivery.offset - self.to;
        self.to = delivery.offset + 1;
        self.bytes += delivery.record_bytes;
        self.memory_bytes += delivery.memory_bytes();
        self.oldest_ms = self.oldest_ms.min(delivery.kafka_ms);
        self.sum_ms += delivery.kafka_ms;
        self.origins.extend(origin.map(|context| SampledSpan { context, offset: delivery.offset }));
        match &delivery.reading {
            Ok(_) => self.merge(&delivery),
            Err(Undecodable { error, .. }) => self.dead_letters.push(DeadLetter {
                offset: delivery.offset,
                class: ErrorClass::of(error),
                code: None,
                message: error.to_string(),
                confirmed: false,
            }),
        }
        self.deliveries.push(delivery);
    }

    /// Merges a delivery's reading into its row.
    pub fn merge(&mut self, delivery: &Delivery) {
        let Ok(reading) = &delivery.reading else { return };
        let identity = row::identity(reading);
        let source = row::source(self.partition, delivery.offset);
        let replayed = match delivery.replay {
            None => None,
            Some(Replay::DeadLetter(partition, offset)) if partition == self.partition => {
                Some(ReadingRow::new(reading, row::source(partition, offset)))
            }
            // Such a dead letter's partition is gone, so its first source shows no order here. Its row
            // belongs to the partition that counts the row.
            Some(Replay::DeadLetter(..) | Replay::Reject) => {
                Some(ReadingRow { id: source, ..ReadingRow::new(reading, REJECT_SOURCE) })
            }
        };
        if let Some(row) = replayed {
            self.replays.push((identity, row));
            return;
        }
        self.rows
            .entry(identity)
            .and_modify(|row| row.merge(reading, source))
            .or_insert_with(|| ReadingRow::new(reading, source));
    }

    /// Adds dead letters for deliveries that MySQL rejects, and merges the others again: a row may
    /// hold a rejected delivery's value over a good one's.
    pub fn add_dead_letters(&mut self, dead_letters: Vec<DeadLetter>) {
        self.dead_letters.extend(dead_letters);
        self.dead_letters.sort_by_key(|letter| letter.offset);
        self.merge_anew();
    }

    /// Removes dead letters of data errors that Kafka has not confirmed, and merges their
    /// deliveries again.
    pub fn reconsider(&mut self) {
        self.dead_letters.retain(|letter| letter.confirmed || letter.class != ErrorClass::Data);
        self.merge_anew();
    }

    fn merge_anew(&mut self) {
        self.rows.clear();
        self.replays.clear();
        let without_dead_letter: Vec<usize> =
            self.without_dead_letter().map(|(index, _)| index).collect();
        let deliveries = std::mem::take(&mut self.deliveries);
        for index in without_dead_letter {
            self.merge(&deliveries[index]);
        }
        self.deliveries = deliveries;
    }

    /// Returns whether Kafka has yet to confirm a dead letter.
    pub fn has_unconfirmed(&self) -> bool {
        self.dead_letters.iter().any(|letter| !letter.confirmed)
    }

    /// Returns the index of a dead letter's delivery.
    pub fn index_of(&self, letter: &DeadLetter) -> Option<usize> {
        self.deliveries.binary_search_by_key(&letter.offset, |delivery| delivery.offset).ok()
    }

    /// Returns whether a delivery is a dead letter.
    pub fn is_dead_letter(&self, delivery: &Delivery) -> bool {
        let offset = delivery.offset;
        self.dead_letters.binary_search_by_key(&offset, |letter| letter.offset).is_ok()
    }

    /// Returns the deliveries that are not dead letters, with their indexes.
    pub fn without_dead_letter(&self) -> impl Iterator<Item = (usize, &Delivery)> {
        let deliveries = self.deliveries.iter().enumerate();
        deliveries.filter(move |(_, delivery)| !self.is_dead_letter(delivery))
    }

    /// Returns every row, those of replays included.
    pub fn all_rows(&self) -> impl Iterator<Item = (&Identity, &ReadingRow)> {
        self.rows.iter().chain(self.replays.iter().map(|(identity, row)| (identity, row)))
    }

    /// Returns the number of rows, those of replays included.
    pub fn row_count(&self) -> usize {
        self.rows.len() + self.replays.len()
    }

    /// Returns the deliveries in memory.
    pub fn load(&self) -> DeliveryLoad {
        DeliveryLoad { deliveries: self.records(), bytes: self.memory_bytes }
    }

    /// Returns the number of all records.
    pub fn records(&self) -> usize {
        self.deliveries.len()
    }

    /// Returns the number of records that are not dead letters.
    pub fn readings(&self) -> i64 {
        (self.deliveries.len() - self.dead_letters.len()) as i64
    }

    /// Returns the advance of the ledger, given that `stored` rows were new.
    pub fn advance(&self, stored: i64) -> Advance {
        Advance {
            partition: self.partition,
            epoch: self.epoch,
            from: self.from,
            to: self.to,
            redis_offset: self.redis_offset,
            counts: Counts {
                stored,
                merged: self.readings() - stored,
                dead_lettered: self.dead_letters.len() as i64,
                skipped_gap: self.gap,
                processed: 0,
            },
        }
    }
}

//! The contiguous deliveries of one partition in a batch, merged by identity.

use std::collections::HashMap;

use ljwx_ledger::group::consumer::Delivery;
use ljwx_ledger::group::dead_letter_topic::ErrorClass;
use ljwx_ledger::ledger::{Advance, Counts};
use opentelemetry::trace::SpanContext;

use super::delivery;
use super::row::{self, Identity, Row};

/// A contiguous stretch of one partition's deliveries, merged by identity.
#[derive(Debug)]
pub struct Segment {
    /// The partition.
    pub partition: i32,
    /// The claim it was read under.
    pub epoch: i64,
    /// First offset.
    pub from: i64,
    /// One past the last offset.
    pub to: i64,
    /// Every record, in order; kept as they came, since any of them may have to be dead-lettered.
    pub deliveries: Vec<Delivery>,
    /// Rows by identity, of all deliveries without a letter.
    pub rows: HashMap<Identity, Row>,
    /// Rows of readings that were sent once more from a dead-letter or rejects topic, each with its
    /// first source. Not merged with others: a merged row has one source, and theirs is older.
    pub replays: Vec<(Identity, Row)>,
    /// Deliveries that are dead letters, in order.
    pub letters: Vec<Letter>,
    /// Offsets without a record.
    pub gap: i64,
    /// Bytes of the deliveries' values.
    pub bytes: usize,
    /// Kafka times: oldest and sum, in milliseconds.
    pub oldest_ms: i64,
    /// Sum of Kafka times, for their mean.
    pub sum_ms: i64,
    /// Contexts of the sampled deliveries.
    pub origins: Vec<Origin>,
    /// Up to where Redis was current before this segment, where it is known.
    pub redis_offset: Option<i64>,
    /// Whether another segment of the partition waits behind it.
    pub followed: bool,
}

/// A delivery of a segment that cannot be stored, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The delivery's offset.
    pub offset: i64,
    /// What is wrong, as a stable word.
    pub class: ErrorClass,
    /// The database's own code.
    pub code: Option<String>,
    /// What is wrong, without any value.
    pub message: String,
    /// Whether Kafka has it.
    pub confirmed: bool,
}

/// A sampled delivery's place in its trace.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The span that sent it.
    pub context: SpanContext,
    /// Its offset.
    pub offset: i64,
}

impl Segment {
    /// An empty segment of a partition that stands at `from`.
    pub fn new(partition: i32, epoch: i64, from: i64) -> Self {
        Self {
            partition,
            epoch,
            from,
            to: from,
            deliveries: Vec::new(),
            rows: HashMap::new(),
            replays: Vec::new(),
            letters: Vec::new(),
            gap: 0,
            bytes: 0,
            oldest_ms: i64::MAX,
            sum_ms: 0,
            origins: Vec::new(),
            redis_offset: None,
            followed: false,
        }
    }

    /// Adds the next delivery of the partition.
    pub fn push(&mut self, delivery: Delivery, origin: Option<SpanContext>) {
        self.gap += delivery.offset - self.to;
        self.to = delivery.offset + 1;
        self.bytes += delivery.record.value.len();
        self.oldest_ms = self.oldest_ms.min(delivery.kafka_ms);
        self.sum_ms += delivery.kafka_ms;
        self.origins.extend(origin.map(|context| Origin { context, offset: delivery.offset }));
        match &delivery.reading {
            Ok(_) => self.merge(&delivery),
            Err(error) => self.letters.push(Letter {
                offset: delivery.offset,
                class: ErrorClass::Undecodable,
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
        if let Some((partition, offset)) = delivery::first_place(delivery.record.headers.as_ref()) {
            self.replays.push((identity, Row::new(reading, row::source(partition, offset))));
            return;
        }
        let source = row::source(self.partition, delivery.offset);
        self.rows
            .entry(identity)
            .and_modify(|row| row.merge(reading, source))
            .or_insert_with(|| Row::new(reading, source));
    }

    /// Adds letters for deliveries that turned out to be refused, and merges the others anew: a row
    /// may have held a refused delivery's value over a good one's.
    pub fn refuse(&mut self, letters: Vec<Letter>) {
        self.letters.extend(letters);
        self.letters.sort_by_key(|letter| letter.offset);
        self.merge_anew();
    }

    /// Takes back the letters that only the database's refusal made and nobody has yet.
    pub fn reconsider(&mut self) {
        self.letters.retain(|letter| letter.confirmed || letter.class == ErrorClass::Undecodable);
        self.merge_anew();
    }

    fn merge_anew(&mut self) {
        self.rows.clear();
        self.replays.clear();
        let good: Vec<usize> = self.good().map(|(index, _)| index).collect();
        let deliveries = std::mem::take(&mut self.deliveries);
        for index in good {
            self.merge(&deliveries[index]);
        }
        self.deliveries = deliveries;
    }

    /// The deliveries without a letter, with their places.
    pub fn good(&self) -> impl Iterator<Item = (usize, &Delivery)> {
        self.deliveries.iter().enumerate().filter(|(_, delivery)| {
            self.letters.binary_search_by_key(&delivery.offset, |letter| letter.offset).is_err()
        })
    }

    /// Every row, those of replays included.
    pub fn all_rows(&self) -> impl Iterator<Item = (&Identity, &Row)> {
        self.rows.iter().chain(self.replays.iter().map(|(identity, row)| (identity, row)))
    }

    /// All records.
    pub fn records(&self) -> usize {
        self.deliveries.len()
    }

    /// Records that became rows.
    pub fn readings(&self) -> i64 {
        (self.deliveries.len() - self.letters.len()) as i64
    }

    /// The ledger's move, given how many of the rows were new.
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
                dead_lettered: self.letters.len() as i64,
                skipped_gap: self.gap,
                processed: 0,
            },
        }
    }
}

//! What is written together: segments of partitions, each a contiguous stretch of deliveries.

use std::collections::HashMap;

use common::ledger::{Advance, Counts};
use common::source::Delivery;
use opentelemetry::trace::SpanContext;

use crate::row::{self, Identity, Row};

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
    /// Rows by identity.
    pub rows: HashMap<Identity, Row>,
    /// Deliveries whose value is no reading; dead letters before their offset may count.
    pub letters: Vec<Delivery>,
    /// Deliveries that became rows.
    pub deliveries: i64,
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
            rows: HashMap::new(),
            letters: Vec::new(),
            deliveries: 0,
            gap: 0,
            bytes: 0,
            oldest_ms: i64::MAX,
            sum_ms: 0,
            origins: Vec::new(),
            redis_offset: None,
        }
    }

    /// Adds the next delivery of the partition.
    pub fn push(&mut self, delivery: Delivery, origin: Option<SpanContext>) {
        self.gap += delivery.offset - self.to;
        self.to = delivery.offset + 1;
        self.bytes += delivery.value.len();
        self.oldest_ms = self.oldest_ms.min(delivery.kafka_ms);
        self.sum_ms += delivery.kafka_ms;
        self.origins.extend(origin.map(|context| Origin { context, offset: delivery.offset }));
        match &delivery.reading {
            Err(_) => self.letters.push(delivery),
            Ok(reading) => {
                self.deliveries += 1;
                let source = row::source(self.partition, delivery.offset);
                let identity = (reading.device_sn().clone(), reading.timestamp());
                self.rows
                    .entry(identity)
                    .and_modify(|row| row.merge(reading, source))
                    .or_insert_with(|| Row::new(reading, source));
            }
        }
    }

    /// Deliveries and dead letters.
    pub fn records(&self) -> i64 {
        self.deliveries + self.letters.len() as i64
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
                merged: self.deliveries - stored,
                dead_lettered: self.letters.len() as i64,
                skipped_gap: self.gap,
                processed: 0,
            },
        }
    }
}

/// Why a batch was taken; the words are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushReason {
    /// Enough rows.
    Rows,
    /// Enough bytes.
    Bytes,
    /// The oldest delivery waited long enough.
    Age,
    /// Partitions go away.
    Revoked,
    /// The process is stopping.
    Shutdown,
}

impl FlushReason {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Segments of different partitions, written in one transaction.
#[derive(Debug)]
pub struct Batch {
    /// Names the batch in spans and logs.
    pub id: String,
    /// Why it was taken.
    pub reason: FlushReason,
    /// Its segments, at most one a partition.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Deliveries and dead letters of all segments.
    pub fn records(&self) -> i64 {
        self.segments.iter().map(Segment::records).sum()
    }
}

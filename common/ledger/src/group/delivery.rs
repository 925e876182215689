//! The events of a group's member: claims, deliveries, revocations, failures. A replayed delivery
//! names its origin.
//!
//! Holds values only. `poll_thread`, `claims` and `rebalance` create them, and the pipeline of a
//! service receives them.

use std::iter::Sum;
use std::ops::Add;

use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message, OwnedHeaders};
use tokio::sync::oneshot;

use crate::ledger::Claim;
use ljwx_reading::Reading;
use ljwx_reading::wire::DecodeError;
use ljwx_service::kafka::record_trace::RecordTrace;

/// Most deliveries handed over at a time.
pub(super) const CHUNK_DELIVERIES_MAX: usize = 256;

/// Memory of a delivery beside the bytes of its record: the delivery, and in the worker its row,
/// which shares the documents.
const DELIVERY_BYTES: usize = 1536;

/// One record of the readings topic, decoded.
#[derive(Debug)]
pub struct Delivery {
    /// The partition.
    pub partition: i32,
    /// The offset as the ledger counts: Kafka's plus the topic's base.
    pub offset: i64,
    /// The epoch of the claim under which the record was read.
    pub epoch: i64,
    /// The Kafka record time, in milliseconds since 1970: the receipt at the gateway.
    pub kafka_ms: i64,
    /// The trace context in the record's headers.
    pub origin: RecordTrace,
    /// The origin of a replayed reading, in the record's headers.
    pub replay: Option<Replay>,
    /// The reading, or the record that cannot be decoded as one.
    pub reading: Result<Reading, Undecodable>,
    /// Bytes of the record that are kept: its value, of which documents are the largest part, or
    /// the whole record if it is undecodable.
    pub record_bytes: usize,
}

impl Delivery {
    /// Returns the memory that the delivery takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        DELIVERY_BYTES + self.record_bytes
    }
}

/// An amount of deliveries: their number, and the memory that they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryLoad {
    /// The number.
    pub deliveries: usize,
    /// The memory, in bytes.
    pub bytes: usize,
}

impl DeliveryLoad {
    /// Returns the load of these deliveries.
    pub fn of(deliveries: &[Delivery]) -> Self {
        let bytes = deliveries.iter().map(Delivery::memory_bytes).sum();
        Self { deliveries: deliveries.len(), bytes }
    }

    /// Returns whether the number or the memory reaches its limit.
    pub fn reaches(self, limit: Self) -> bool {
        self.deliveries >= limit.deliveries || self.bytes >= limit.bytes
    }

    /// Returns the load, cut to the limit.
    pub fn at_most(self, limit: Self) -> Self {
        Self {
            deliveries: self.deliveries.min(limit.deliveries),
            bytes: self.bytes.min(limit.bytes),
        }
    }
}

impl Add for DeliveryLoad {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { deliveries: self.deliveries + other.deliveries, bytes: self.bytes + other.bytes }
    }
}

impl Sum for DeliveryLoad {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Add::add)
    }
}

/// Partition of the first record of a replayed reading, as a header. A dead letter has the place of
/// its first record. A reject was no record of the readings topic before and has only a count.
pub const REPLAY_PARTITION: &str = "replay.partition";

/// Offset of the reading's first record, as a header.
pub const REPLAY_OFFSET: &str = "replay.offset";

/// Number of replays of the reading, as a header.
pub const REPLAY_COUNT: &str = "replay.count";

/// The origin of a replayed reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// A dead letter, with partition and offset of the reading's first record.
    DeadLetter(i32, i64),
    /// An item that was rejected at first.
    Reject,
}

impl Replay {
    /// Reads the origin from the headers of a record. Returns `None` if the reading is not
    /// replayed.
    pub fn of_headers<H: Headers>(headers: &H) -> Option<Self> {
        let (mut partition, mut offset, mut count) = (None, None, None);
        for header in headers.iter() {
            let slot = match header.key {
                REPLAY_PARTITION => &mut partition,
                REPLAY_OFFSET => &mut offset,
                REPLAY_COUNT => &mut count,
                _ => continue,
            };
            *slot = slot.or(header.value.and_then(|value| std::str::from_utf8(value).ok()));
        }
        let place = || Some((partition?.parse().ok()?, offset?.parse().ok()?));
        match place() {
            Some((partition, offset)) => Some(Self::DeadLetter(partition, offset)),
            None => count.map(|_| Self::Reject),
        }
    }
}

/// A record that cannot be decoded as a reading.
#[derive(Debug)]
pub struct Undecodable {
    /// The reason.
    pub error: DecodeError,
    /// The record, which is dead-lettered as it came.
    pub record: RawRecord,
}

/// A record, unchanged.
#[derive(Debug, Clone, Default)]
pub struct RawRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value. `None` if the record is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Option<OwnedHeaders>,
}

impl RawRecord {
    /// Copies a record.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(BorrowedHeaders::detach),
        }
    }

    /// Returns the bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().flat_map(|headers| headers.iter());
        let of_headers =
            headers.map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len));
        length(&self.key) + length(&self.value) + of_headers.sum::<usize>()
    }
}

/// An event for the pipeline.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// Claimed partitions with their positions. Empty if the group has no partition for this
    /// member.
    Assigned(Vec<Claim>),
    /// Deliveries, in order within each partition.
    Deliveries(Vec<Delivery>),
    /// Partitions are being revoked.
    Revoked(Revocation),
    /// The process is stopping, and no more deliveries follow.
    Closed,
    /// The consumer failed for good. Only a new process helps.
    Failed(String),
}

/// Revoked partitions. They are given up once this value is dropped or its deadline has passed.
#[derive(Debug)]
pub struct Revocation {
    /// The revoked partitions.
    pub partitions: Vec<i32>,
    /// Whether another member already owns the partitions. Nothing may be written for them then.
    pub lost: bool,
    pub(super) done: Option<oneshot::Sender<()>>,
}

impl Drop for Revocation {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            // The waiting side stops waiting at its deadline, and then nothing receives this.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Header;

    use super::*;

    #[test]
    fn a_place_is_a_dead_letter_s_and_a_count_alone_a_reject_s() {
        for (headers, origin) in [
            (&[][..], None),
            (&[("traceparent", "00-x")], None),
            (&[(REPLAY_COUNT, "1")], Some(Replay::Reject)),
            (
                &[(REPLAY_PARTITION, "4"), (REPLAY_OFFSET, "17"), (REPLAY_COUNT, "1")],
                Some(Replay::DeadLetter(4, 17)),
            ),
            (&[(REPLAY_PARTITION, "4"), (REPLAY_COUNT, "1")], Some(Replay::Reject)),
            (&[(REPLAY_PARTITION, "4"), (REPLAY_OFFSET, "x")], None),
        ] {
            let add = |all: OwnedHeaders, (key, value): &(&str, &str)| {
                all.insert(Header { key, value: Some(*value) })
            };
            let record = headers.iter().fold(OwnedHeaders::new(), add);
            assert_eq!(Replay::of_headers(&record), origin, "{headers:?}");
        }
    }
}

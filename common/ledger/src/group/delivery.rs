//! The events of a group's member: claims, deliveries, revocations, failures.
//!
//! Holds values only. `poll_thread`, `claims` and `rebalance` create them, and the pipeline of a
//! service receives them.

use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message, OwnedHeaders};
use tokio::sync::oneshot;

use super::replay::Replay;
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

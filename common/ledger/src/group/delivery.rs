//! The events of a group's member: claims, deliveries, revocations, failures.
//!
//! Holds values only. `poll_thread` and `claims` make them, the pipeline of a service receives them.

use rdkafka::message::OwnedHeaders;
use tokio::sync::oneshot;

use crate::ledger::Claim;
use ljwx_reading::Reading;
use ljwx_reading::wire::DecodeError;
use ljwx_service::kafka::record_trace::Origin;

/// Deliveries handed over at a time, at most.
pub(super) const CHUNK_DELIVERIES_MAX: usize = 256;

/// One record of the readings topic, decoded.
#[derive(Debug)]
pub struct Delivery {
    /// Its partition.
    pub partition: i32,
    /// Its offset, as the ledger counts: Kafka's plus the topic's base.
    pub offset: i64,
    /// The claim it was read under.
    pub epoch: i64,
    /// The record's time, in milliseconds since 1970: when the gateway received it.
    pub kafka_ms: i64,
    /// The span that sent it.
    pub origin: Origin,
    /// What it says, or why nobody can tell.
    pub reading: Result<Reading, DecodeError>,
    /// The record itself; empty where the source keeps none.
    pub record: Record,
}

/// A record as it stands in Kafka.
#[derive(Debug, Default)]
pub struct Record {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
}

/// What a pipeline has to deal with.
#[derive(Debug)]
pub enum Event {
    /// Partitions are ours, from these positions; none where the group has none for this member.
    Assigned(Vec<Claim>),
    /// Deliveries in the order of their partitions.
    Deliveries(Vec<Delivery>),
    /// Partitions go away.
    Revoked(Revocation),
    /// No more deliveries will come: the process is stopping.
    Closed,
    /// The consumer cannot go on; only a new process can.
    Failed(String),
}

/// Partitions that go away once this is dropped or its deadline has passed.
#[derive(Debug)]
pub struct Revocation {
    /// Which.
    pub partitions: Vec<i32>,
    /// Whether somebody else has them already, so that nothing may be written any more.
    pub lost: bool,
    pub(super) done: Option<oneshot::Sender<()>>,
}

impl Drop for Revocation {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            // The waiting side gives up at its deadline; then nobody has to be told.
            let _ = done.send(());
        }
    }
}

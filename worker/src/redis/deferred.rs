//! Decides which rows of a batch are written to Redis now and which are deferred to the next batch.
//! Pure.
//!
//! In a backlog the readings of a device follow one another faster than people look at them. So a
//! partition with more waiting segments writes its devices only at intervals, each device once with
//! its newest row.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ljwx_reading::DeviceSn;

use crate::batch::Batch;
use crate::batch::redis_progress::RedisWrite;
use crate::batch::row::{Identity, ReadingRow};

/// Time for which a partition with more waiting segments writes nothing to Redis.
const WRITE_INTERVAL: Duration = Duration::from_millis(300);

/// A row to be written to Redis, with its key.
pub type DeferredRow = (Identity, ReadingRow);

/// The deferred rows of all partitions.
#[derive(Debug, Default)]
pub struct DeferredDevices(HashMap<i32, DeferredLane>);

#[derive(Debug)]
struct DeferredLane {
    epoch: i64,
    since: Instant,
    devices: Devices,
}

/// The newest row of each device. Rows of the same time all stay, because each may have fields that
/// the others do not have.
#[derive(Debug, Default)]
struct Devices(BTreeMap<DeviceSn, Vec<DeferredRow>>);

impl Devices {
    fn take(&mut self, identity: &Identity, row: &ReadingRow) {
        let rows = self.0.entry(identity.0.clone()).or_default();
        let newest = rows.last().map(|((_, timestamp), _)| *timestamp);
        if newest.is_some_and(|newest| newest > identity.1) {
            return;
        }
        if newest.is_some_and(|newest| newest < identity.1) {
            rows.clear();
        }
        rows.push((identity.clone(), row.clone()));
    }
}

impl DeferredDevices {
    /// Returns the rows to be written at `now`, and for each segment of the batch whether its rows
    /// are among them. Rows ahead of the clock are never written.
    pub fn sort(&mut self, batch: &Batch, now: Instant) -> (Vec<DeferredRow>, Vec<RedisWrite>) {
        let mut rows = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.segments.len());
        for segment in &batch.segments {
            let (partition, epoch) = (segment.partition, segment.epoch);
            let held = self.0.remove(&partition).filter(|lane| lane.epoch == epoch);
            let fresh = || DeferredLane { epoch, since: now, devices: Devices::default() };
            let mut lane = held.unwrap_or_else(fresh);
            for (identity, row) in segment.rows.iter().filter(|(_, row)| !row.ahead) {
                lane.devices.take(identity, row);
            }
            if segment.has_successor && now.saturating_duration_since(lane.since) < WRITE_INTERVAL {
                self.0.insert(partition, lane);
                outcomes.push(RedisWrite::Deferred);
            } else {
                rows.extend(lane.devices.0.into_values().flatten());
                outcomes.push(RedisWrite::Done);
            }
        }
        (rows, outcomes)
    }
}

#[cfg(test)]
#[path = "deferred_tests.rs"]
mod tests;

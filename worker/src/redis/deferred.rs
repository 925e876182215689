//! What of a batch is shown now and what is left to the batch behind it; pure.
//!
//! In a backlog a device's readings follow one another faster than anybody looks at them. A partition
//! that has more waiting shows its devices only every so often, each once with what is newest then.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ljwx_reading::DeviceSn;

use crate::batch::Batch;
use crate::batch::redis_progress::InRedis;
use crate::batch::row::{Identity, Row};

/// How long a partition with more waiting shows nothing.
const SHOW_INTERVAL: Duration = Duration::from_millis(300);

/// A row to be shown, with its key.
pub type Shown = (Identity, Row);

/// What partitions have put off.
#[derive(Debug, Default)]
pub struct PutOff(HashMap<i32, Lane>);

#[derive(Debug)]
struct Lane {
    epoch: i64,
    since: Instant,
    devices: Devices,
}

/// The newest row of each device; of one time all, as each says what the others may lack.
#[derive(Debug, Default)]
struct Devices(BTreeMap<DeviceSn, Vec<Shown>>);

impl Devices {
    fn take(&mut self, identity: &Identity, row: &Row) {
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

impl PutOff {
    /// The rows to be shown at `now`, and for each segment of the batch whether its are among them.
    /// Rows ahead of the clock are never shown.
    pub fn sort(&mut self, batch: &Batch, now: Instant) -> (Vec<Shown>, Vec<InRedis>) {
        let mut rows = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.segments.len());
        for segment in &batch.segments {
            let (partition, epoch) = (segment.partition, segment.epoch);
            let held = self.0.remove(&partition).filter(|lane| lane.epoch == epoch);
            let fresh = || Lane { epoch, since: now, devices: Devices::default() };
            let mut lane = held.unwrap_or_else(fresh);
            for (identity, row) in segment.rows.iter().filter(|(_, row)| !row.ahead) {
                lane.devices.take(identity, row);
            }
            if segment.followed && now.saturating_duration_since(lane.since) < SHOW_INTERVAL {
                self.0.insert(partition, lane);
                outcomes.push(InRedis::Later);
            } else {
                rows.extend(lane.devices.0.into_values().flatten());
                outcomes.push(InRedis::Yes);
            }
        }
        (rows, outcomes)
    }
}

#[cfg(test)]
#[path = "deferred_tests.rs"]
mod tests;

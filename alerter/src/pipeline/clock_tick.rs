//! Acts on the wall clock: finds missing data that no record shows, tries what is owed, and closes
//! the absences of devices that belong to no one any more.
//!
//! [`crate::engine`] decides what is due. Data is missing only in partitions that have been read to
//! their end, by the wall time that [`crate::engine::no_data::counted_time`] counts.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use ljwx_reading::DeviceSn;
use tracing::debug;

use super::Pipeline;
use crate::mysql::retry::Stopping;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::shared_state::SharedState;

/// Missing devices of a partition whose users are looked up at a time.
const UNBOUND_ASKED_MAX: usize = 1_000;

/// Interval at which devices are forgotten. Each time visits every device.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);

impl Pipeline {
    /// Evaluates `NO_DATA` rules that no record triggers, and tries what is owed and was not tried
    /// for a while.
    pub(super) async fn on_clock_tick(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.clocks.report();
        let now_ms = Timestamp::now().as_millisecond();
        let overdue = self.engine.overdue(now_ms);
        let looks = self.engine.due_looks(now_ms);
        let behind = looks.iter().filter(|(_, is_current)| !**is_current);
        let asked = behind.map(|(partition, _)| *partition).chain(overdue.iter().copied());
        let at_end = self.read_to_end(asked.collect()).await;
        let mut due: BTreeSet<i32> = looks.into_keys().chain(at_end.iter().copied()).collect();
        let forgets = self.forgot_at.elapsed() >= FORGET_INTERVAL;
        if forgets {
            self.forgot_at = begun;
            due.extend(self.positions.keys());
        }
        let mut batch = Vec::new();
        for partition in due {
            let Some(mut partition_batch) = self.partition_batch(partition) else { continue };
            let at_end = at_end.contains(&partition);
            let is_missing = at_end && overdue.contains(&partition);
            let counted_ms = self.shared.counted_time.borrow().since_last_record(partition);
            let counted_ms = counted_ms.filter(|_| is_missing);
            self.pass_time(now_ms, at_end, counted_ms, &mut partition_batch).await?;
            if forgets {
                let closed = self.engine.forget_devices(partition);
                self.record(&closed, None, SystemTime::now(), &mut partition_batch, &self.router());
            }
            self.add_part(&mut batch, partition_batch, begun).await?;
        }
        self.commit(batch, begun).await
    }

    /// Returns those of the partitions that have been read to their end.
    async fn read_to_end(&self, asked: BTreeSet<i32>) -> BTreeSet<i32> {
        if asked.is_empty() {
            return asked;
        }
        let ends = self.source.ends(asked.into_iter().collect()).await;
        let ends = ends.unwrap_or_else(|error| {
            debug!(%error, "cannot read the end of the topic, postponing what depends on it");
            Vec::new()
        });
        let is_read = |(partition, end): (i32, i64)| {
            let position = self.positions.get(&partition)?;
            (position.next_offset >= end).then_some(partition)
        };
        ends.into_iter().filter_map(is_read).collect()
    }

    /// Adds to the partition's batch what the wall clock changes. `counted_ms` have passed since the
    /// last record, if data is missing at all. Before a step, looks up the people whom the engine
    /// names.
    async fn pass_time(
        &mut self,
        now_ms: i64,
        at_end: bool,
        counted_ms: Option<i64>,
        partition_batch: &mut PartitionBatch,
    ) -> Result<(), Stopping> {
        let partition = partition_batch.advance.partition;
        let (mut router, mut changes) = (self.router(), Vec::new());
        loop {
            let (made, mut unknown) = self.engine.look(partition, now_ms, at_end, &router);
            changes.extend(made);
            if let Some(counted_ms) = counted_ms {
                let (made, others) = self.engine.pass(partition, counted_ms, now_ms, &router);
                changes.extend(made);
                unknown.extend(others);
            }
            if unknown.is_empty() {
                break;
            }
            self.look_up(&mut router, &unknown).await?;
        }
        let people = changes.iter().map(|change| change.ids).collect();
        self.look_up(&mut router, &people).await?;
        self.record(&changes, None, SystemTime::now(), partition_batch, &router);
        Ok(())
    }

    /// Closes the absences of devices that the platform has bound to a user before, and now to none.
    pub(super) async fn on_unbound_tick(&mut self) -> anyhow::Result<()> {
        let (begun, mut batch) = (Instant::now(), Vec::new());
        for partition in self.engine.partitions() {
            let Some(mut partition_batch) = self.partition_batch(partition) else { continue };
            // After a ward's outage thousands are missing. Each tick asks for the next of them.
            let absent = self.engine.absent_users(partition);
            let last = self.asked_unbound.remove(&partition);
            let from = last.filter(|last| absent.last() > Some(last)).map_or(Unbounded, Excluded);
            let next = absent.range((from, Unbounded)).take(UNBOUND_ASKED_MAX);
            let missing: Vec<DeviceSn> = next.cloned().collect();
            self.asked_unbound.extend(missing.last().map(|last| (partition, last.clone())));
            let SharedState { mysql_retry, bindings, .. } = &self.shared;
            let worn = mysql_retry
                .until_done("look up users of missing devices", || bindings.worn(&missing))
                .await?;
            let Some(worn) = worn else { continue };
            let closed = self.engine.close_unbound(partition, &missing, &worn);
            self.record(&closed, None, SystemTime::now(), &mut partition_batch, &self.router());
            self.add_part(&mut batch, partition_batch, begun).await?;
        }
        self.commit(batch, begun).await
    }
}

//! Evaluates deliveries, and collects what each partition has to write.
//!
//! [`crate::engine`] evaluates a reading, and `route_transition` adds the rows of a transition.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::{Instant, SystemTime};

use ljwx_ledger::group::delivery::Delivery;
use ljwx_reading::{DeviceSn, Ids};
use tracing::debug;

use super::{DELIVERIES_MAX, Parts, Pipeline};
use crate::engine::Arrival;
use crate::mysql::retry::GaveUp;
use crate::pipeline::alert_span::Cause;
use crate::pipeline::partition_batch::Stretch;

impl Pipeline {
    /// Adds the deliveries that arrived while the last transaction was written. Every transaction
    /// has the same fixed cost, so a backlog makes transactions larger instead of more numerous.
    pub(super) fn and_what_waits(&mut self, first: Vec<Delivery>) -> Vec<Vec<Delivery>> {
        let mut count = first.len();
        let mut chunks = vec![first];
        while count < DELIVERIES_MAX {
            let Some(more) = self.parts.source.waiting() else { break };
            count += more.len();
            chunks.push(more);
        }
        chunks
    }

    /// Evaluates deliveries, oldest first, and starts writing the results.
    pub(super) async fn on_deliveries(
        &mut self,
        chunks: Vec<Vec<Delivery>>,
    ) -> anyhow::Result<ControlFlow<()>> {
        let begun = Instant::now();
        let Ok(bound) = self.bound(&chunks).await else { return Ok(ControlFlow::Break(())) };
        let mut batch: BTreeMap<i32, Stretch> = BTreeMap::new();
        for delivery in chunks.iter().flatten() {
            let stretch = match batch.entry(delivery.partition) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => match self.stretch(delivery.partition) {
                    Some(stretch) => entry.insert(stretch),
                    None => continue,
                },
            };
            // Skip deliveries of an earlier claim: they are read again under this one.
            let ours = delivery.epoch == stretch.advance.epoch;
            if ours
                && delivery.offset >= stretch.advance.to
                && self.judge(delivery, &bound, stretch).await == Err(GaveUp)
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.tally.count();
        self.commit(batch.into_values().collect(), begun).await
    }

    /// Returns the bindings of devices whose readings carry no complete ids.
    async fn bound(&self, chunks: &[Vec<Delivery>]) -> Result<HashMap<DeviceSn, Ids>, GaveUp> {
        let deliveries = chunks.iter().flatten();
        let readings = deliveries.filter_map(|delivery| delivery.reading.as_ref().ok());
        let lacking = readings.filter(|reading| !reading.ids().is_complete());
        let wanted: BTreeSet<_> = lacking.map(|reading| reading.device_sn().clone()).collect();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let Parts { hold, bindings, .. } = &self.parts;
        hold.until_done("look up bindings", || bindings.known(wanted.clone())).await
    }

    /// Evaluates one delivery, and adds the results to its partition's batch.
    async fn judge(
        &mut self,
        delivery: &Delivery,
        bound: &HashMap<DeviceSn, Ids>,
        stretch: &mut Stretch,
    ) -> Result<(), GaveUp> {
        stretch.pass(delivery.offset);
        let reading = match &delivery.reading {
            Ok(reading) => reading,
            Err(error) => {
                // The worker's group keeps it in its dead-letter topic. One copy is enough.
                self.tally.undecodable += 1;
                debug!(partition = delivery.partition, offset = delivery.offset, %error, "undecodable reading passed");
                return Ok(());
            }
        };
        let since = SystemTime::now();
        let bound = bound.get(reading.device_sn()).copied().unwrap_or_default();
        let ids = reading.ids().or(bound);
        let arrival = Arrival { reading, ids, kafka_ms: delivery.kafka_ms };
        let judged = self.engine.judge(delivery.partition, arrival);
        self.tally.add(&judged);
        if judged.changes.is_empty() {
            return Ok(());
        }
        let cause = Cause {
            reading: Some(reading),
            partition: delivery.partition,
            offset: delivery.offset,
            topic: &self.parts.topic.clone(),
            context: delivery.origin.context(),
            since,
        };
        let absence = Cause { reading: None, context: None, ..cause };
        for change in judged.changes {
            // A record also shows that other devices are silent. The record is not the cause of
            // their alerts.
            let own = change.device_sn == *reading.device_sn();
            self.record(&change, if own { &cause } else { &absence }, stretch).await?;
        }
        Ok(())
    }
}

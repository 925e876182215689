//! Evaluates deliveries, and collects what each partition has to write.
//!
//! [`crate::engine`] evaluates a reading, and `route_transition` adds the rows of a transition.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, HashMap};
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use ljwx_ledger::group::delivery::{Delivery, DeliveryLoad};
use ljwx_reading::{DeviceSn, Ids, Reading};

use super::Pipeline;
use crate::engine::Arrival;
use crate::mysql::retry::Stopping;
use crate::notify::recipients::router::PeopleRouter;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::shared_state::SharedState;
use crate::pipeline::waiting_partitions::PartitionClaim;

impl Pipeline {
    /// Adds the deliveries that arrived while the last transaction was written. Every transaction
    /// has the same fixed cost, so a backlog makes transactions larger instead of more numerous.
    pub(super) fn with_waiting(&mut self, first: Vec<Delivery>) -> Vec<Vec<Delivery>> {
        let mut load = DeliveryLoad::of(&first);
        let mut chunks = vec![first];
        while !load.reaches(self.room) {
            let Some(more) = self.source.waiting() else { break };
            load = load + DeliveryLoad::of(&more);
            chunks.push(more);
        }
        chunks
    }

    /// Returns the deliveries that need not wait for dead letters.
    pub(super) fn hold_back(&mut self, chunks: Vec<Vec<Delivery>>) -> Vec<Vec<Delivery>> {
        let positions = &self.positions;
        self.dead_letters.hold_back(chunks, |delivery| {
            positions.get(&delivery.partition).is_some_and(|at| at.epoch == delivery.epoch)
        })
    }

    /// Evaluates deliveries whose dead letters Kafka has confirmed, and those behind them.
    pub(super) async fn on_confirmed(
        &mut self,
        (claim, deliveries): (PartitionClaim, Vec<Delivery>),
    ) -> anyhow::Result<()> {
        let behind = self.dead_letters.waiting.release(claim);
        let mut chunks = vec![deliveries];
        chunks.extend(self.hold_back(vec![behind]));
        self.on_deliveries(chunks).await
    }

    /// Evaluates deliveries, oldest first, and starts writing the results. Deliveries of partitions
    /// whose batch is held wait. Kafka has confirmed the dead letters of undecodable ones.
    pub(super) async fn on_deliveries(&mut self, chunks: Vec<Vec<Delivery>>) -> anyhow::Result<()> {
        let begun = Instant::now();
        let chunks = self.held.hold_back(chunks);
        let bound = self.bound(&chunks).await?;
        let mut batch: BTreeMap<i32, PartitionBatch> = BTreeMap::new();
        let mut router = self.router();
        let mut deliveries = chunks.iter().flatten();
        while let Some(delivery) = deliveries.next() {
            let partition_batch = match batch.entry(delivery.partition) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => match self.partition_batch(delivery.partition) {
                    Some(partition_batch) => entry.insert(partition_batch),
                    None => continue,
                },
            };
            // Skip deliveries of an earlier claim: they are read again under this one.
            let ours = delivery.epoch == partition_batch.advance.epoch;
            if !ours || delivery.offset < partition_batch.advance.to {
                continue;
            }
            let next = (delivery, deliveries.clone());
            self.evaluate(next, &bound, partition_batch, &mut router).await?;
        }
        self.clocks.count(&std::mem::take(&mut self.counts));
        self.commit(batch.into_values().collect(), begun).await
    }

    /// Returns the bindings of devices whose readings carry no complete ids.
    async fn bound(&self, chunks: &[Vec<Delivery>]) -> Result<HashMap<DeviceSn, Ids>, Stopping> {
        let deliveries = chunks.iter().flatten();
        let readings = deliveries.filter_map(|delivery| delivery.reading.as_ref().ok());
        let lacking = readings.filter(|reading| !reading.ids().is_complete());
        let wanted: BTreeSet<_> = lacking.map(|reading| reading.device_sn().clone()).collect();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let SharedState { mysql_retry, bindings, .. } = &self.shared;
        mysql_retry.until_done("look up device bindings", || bindings.known(wanted.clone())).await
    }

    /// Evaluates one delivery, and adds the results to its partition's batch. `behind` are the
    /// deliveries after it.
    async fn evaluate<'a>(
        &mut self,
        (delivery, mut behind): (&'a Delivery, impl Iterator<Item = &'a Delivery>),
        bound: &HashMap<DeviceSn, Ids>,
        partition_batch: &mut PartitionBatch,
        router: &mut PeopleRouter,
    ) -> Result<(), Stopping> {
        partition_batch.pass(delivery.offset);
        let Ok(reading) = &delivery.reading else {
            self.counts.undecodable += 1;
            return Ok(());
        };
        // It is no device, so no time passes with it, and it is no reading to count.
        if reading.device_sn().is_canary() {
            return Ok(());
        }
        let since = SystemTime::now();
        let evaluated_ms = Timestamp::try_from(since).unwrap_or_default().as_millisecond();
        router.now_ms = evaluated_ms;
        let ids = ids_of(reading, bound);
        let is_bound = ids.user_id.is_some() && reading.ids().user_id.is_none();
        let kafka_ms = delivery.kafka_ms;
        let arrival = Arrival { reading, ids, is_bound, kafka_ms, evaluated_ms };
        let partition = delivery.partition;
        let mut evaluated = self.engine.evaluate(partition, arrival, &*router);
        while !evaluated.unknown.is_empty() {
            let people = with_behind(&evaluated.unknown, &mut behind, bound, router);
            self.look_up(router, &people).await?;
            self.engine.resume(partition, arrival, &*router, &mut evaluated);
        }
        self.counts.add(&evaluated);
        if evaluated.changes.is_empty() {
            return Ok(());
        }
        let people = evaluated.changes.iter().map(|change| change.ids).collect();
        let people = with_behind(&people, &mut behind, bound, router);
        self.look_up(router, &people).await?;
        self.record(&evaluated.changes, Some(delivery), since, partition_batch, router);
        Ok(())
    }
}

/// Returns those of the people who are not known, and with them as many of the deliveries behind as
/// people are known. So the many alerts of a batch need few lookups, and one alert looks up no one
/// else.
fn with_behind<'a>(
    people: &BTreeSet<Ids>,
    behind: &mut impl Iterator<Item = &'a Delivery>,
    bound: &HashMap<DeviceSn, Ids>,
    router: &PeopleRouter,
) -> BTreeSet<Ids> {
    let mut missing = router.missing(people);
    if !missing.is_empty() {
        let readings = behind.filter_map(|delivery| delivery.reading.as_ref().ok());
        missing.extend(readings.take(router.known()).map(|reading| ids_of(reading, bound)));
    }
    missing
}

/// Returns the ids of a reading, or of its device's binding.
fn ids_of(reading: &Reading, bound: &HashMap<DeviceSn, Ids>) -> Ids {
    let bound = bound.get(reading.device_sn()).copied().unwrap_or_default();
    reading.ids().or(bound)
}

//! Evaluates deliveries, and collects what each partition has to write.
//!
//! [`crate::engine`] evaluates a reading, and `route_transition` adds the rows of a transition.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, HashMap};
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use ljwx_ledger::group::delivery::{Delivery, DeliveryLoad, Replay};
use ljwx_reading::{DeviceSn, Ids, Reading};
use ljwx_service::kafka::partitioner::partition_of;

use super::{Pipeline, STATEMENTS_MAX};
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
    pub(super) async fn on_deliveries(
        &mut self,
        mut chunks: Vec<Vec<Delivery>>,
    ) -> anyhow::Result<()> {
        loop {
            chunks = self.held.hold_back(chunks);
            let passed = self.evaluate_some(&chunks).await?;
            let rest: Vec<Delivery> = chunks.into_iter().flatten().skip(passed).collect();
            if rest.is_empty() {
                return Ok(());
            }
            chunks = vec![rest];
        }
    }

    /// Evaluates deliveries, up to as many statements as a transaction takes, and starts writing the
    /// results. Returns how many deliveries it has passed.
    async fn evaluate_some(&mut self, chunks: &[Vec<Delivery>]) -> anyhow::Result<usize> {
        let begun = Instant::now();
        let bound = self.bound(chunks).await?;
        let mut batch: BTreeMap<i32, PartitionBatch> = BTreeMap::new();
        let mut router = self.router();
        let mut deliveries = chunks.iter().flatten();
        let (mut passed, mut statements) = (0, 0);
        while statements < STATEMENTS_MAX
            && let Some(delivery) = deliveries.next()
        {
            passed += 1;
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
            let before = partition_batch.statements();
            self.evaluate(next, &bound, partition_batch, &mut router).await?;
            statements += partition_batch.statements() - before;
        }
        self.clocks.count(&std::mem::take(&mut self.counts));
        self.commit(batch.into_values().collect(), begun).await?;
        Ok(passed)
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
        let accepted = |_| self.shared.counted_time.borrow().accepted_partitions;
        // The device's state is in its own partition. Here it would be a new device, which falls silent.
        if has_moved(delivery, delivery.replay.and_then(accepted)) {
            self.counts.moved += 1;
            return Ok(());
        }
        let since = SystemTime::now();
        let evaluated_ms = Timestamp::try_from(since).unwrap_or_default().as_millisecond();
        router.now_ms = evaluated_ms;
        let ids = ids_of(reading, bound);
        let is_bound = ids.user_id.is_some() && reading.ids().user_id.is_none();
        let (kafka_ms, is_replayed) = (delivery.kafka_ms, delivery.replay.is_some());
        let arrival = Arrival { reading, ids, is_bound, is_replayed, kafka_ms, evaluated_ms };
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

/// Returns whether this is a replayed dead letter whose device belongs to another one of so many
/// partitions. A replay goes to the partition of the letter's first delivery, whose ledger counts its row.
fn has_moved(delivery: &Delivery, partitions: Option<i32>) -> bool {
    let (Some(Replay::DeadLetter(..)), Ok(reading), Some(partitions)) =
        (delivery.replay, &delivery.reading, partitions)
    else {
        return false;
    };
    partition_of(reading.device_sn().as_str().as_bytes(), partitions) != delivery.partition
}

/// Returns the ids of a reading, or of its device's binding.
fn ids_of(reading: &Reading, bound: &HashMap<DeviceSn, Ids>) -> Ids {
    let bound = bound.get(reading.device_sn()).copied().unwrap_or_default();
    reading.ids().or(bound)
}

#[cfg(test)]
mod tests {
    use ljwx_service::kafka::record_trace::RecordTrace;

    use super::*;
    use crate::test_support::heart_rate;

    #[test]
    fn only_a_replayed_dead_letter_is_left_to_the_partition_of_its_device() {
        let own = partition_of(heart_rate(0, 80).device_sn().as_str().as_bytes(), 4);
        let letter = Some(Replay::DeadLetter(own + 1, 7));
        for (replay, partition, partitions, expected) in [
            (letter, own + 1, Some(4), true),
            (letter, own, Some(4), false),
            (letter, own + 1, None, false),
            (Some(Replay::Reject), own + 1, Some(4), false),
            (None, own + 1, Some(4), false),
        ] {
            let delivery = Delivery {
                partition,
                offset: 7,
                epoch: 1,
                kafka_ms: 0,
                origin: RecordTrace::default(),
                replay,
                reading: Ok(heart_rate(0, 80)),
                record_bytes: 0,
            };
            assert_eq!(has_moved(&delivery, partitions), expected, "{replay:?} in {partition}");
        }
    }
}
